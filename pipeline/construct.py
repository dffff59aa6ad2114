"""A method from the `config.json` that lies beside its weights, which is written from the params that trained it.

Training and every later use build a model through the same description, so a folder of weights needs nothing else.
"""

import torch

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.features import build_extractor
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.config import MethodName, ModelConfig, Params, SampleSpec
from spasemsr.methods.base import Method, build_method


def describe(params: Params, method: MethodName, columns: dict[str, str]) -> ModelConfig:
    """What a model is made of: specs, the frozen parts' identities, and the digests of the columns it learns from."""
    profile = params.active
    extractor = profile.features.spasemsr.sam
    return ModelConfig(
        method=method,
        seed=params.seed,
        scale=params.scale,
        lambda_=params.lambda_,
        controlnet_weight=profile.train.controlnet_weight,
        model=profile.model,
        autoencoder=profile.autoencoder,
        text_encoder=profile.text_encoder,
        feature_channels=build_extractor(extractor).channels,
        identities={
            "autoencoder": build_autoencoder(profile.autoencoder).identity.plain(),
            "text_encoder": build_text_encoder(profile.text_encoder).identity.plain(),
        },
        columns=columns,
    )


def build(config: ModelConfig, sample: SampleSpec) -> Method:
    """The method of a description, with freshly drawn weights. Call `one_thread` first where bytes matter."""
    return build_method(
        config.method,
        config.model,
        sample,
        scale=config.scale,
        seed=config.seed,
        lambda_=config.lambda_,
        controlnet_weight=config.controlnet_weight,
        autoencoder=build_autoencoder(config.autoencoder),
        text_encoder=build_text_encoder(config.text_encoder),
        feature_channels=config.feature_channels,
    )


def one_thread() -> None:
    """One intra-op thread and deterministic kernels: on a CPU the number of threads changes the last bits of a sum."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
