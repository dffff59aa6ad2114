"""A method from the description that lies beside its weights: what training, evaluation and upscaling build alike."""

import torch

from spasemsr import randomness
from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.protocols import Autoencoder, TextEncoder
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.protocol import Method
from spasemsr.methods.spasemsr.spec import ModelSpec


def build(config: ModelConfig) -> Method:
    """The method of a description, with freshly drawn weights. Pin threads first where bytes matter."""
    return build_method(
        config.method,
        config.model,
        scale=config.scale,
        seed=config.seed,
        lambda_=config.lambda_,
        controlnet_weight=config.controlnet_weight,
        autoencoder=build_autoencoder(config.autoencoder),
        text_encoder=build_text_encoder(config.text_encoder),
        feature_channels=config.feature_channels,
    )


def build_method(
    name: str,
    spec: ModelSpec,
    *,
    scale: int,
    seed: int,
    lambda_: float,
    controlnet_weight: float,
    autoencoder: Autoencoder,
    text_encoder: TextEncoder,
    feature_channels: int,
) -> Method:
    """The method of this name with freshly drawn weights: a function of `seed`, not of what was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.derive_seed(seed, "weights", name))
        match name:
            case "spasemsr":
                from spasemsr.methods.spasemsr.method import SpaSemSR

                return SpaSemSR(
                    spec,
                    scale=scale,
                    lambda_=lambda_,
                    controlnet_weight=controlnet_weight,
                    autoencoder=autoencoder,
                    text_encoder=text_encoder,
                    feature_channels=feature_channels,
                )
    raise ValueError(f"no method {name!r}")
