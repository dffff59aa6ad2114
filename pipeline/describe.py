"""The `config.json` that lies beside weights, from the params that train them; `assembly.py` builds from it.

Training and every later use build a model through the same description, so a folder of weights needs nothing else.
"""

from spasemsr.backends.autoencoder import spec as autoencoder
from spasemsr.backends.text_encoder import spec as text_encoder
from spasemsr.config import MethodName, Params
from spasemsr.diffusion.pretrained import identity_of
from spasemsr.methods.model_config import InferenceSpec, ModelConfig


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
        feature_channels=extractor.shape(profile.data.patch)[0],
        identities={
            "autoencoder": autoencoder.identity_of(profile.autoencoder),
            "text_encoder": text_encoder.identity_of(profile.text_encoder),
            "base": identity_of(profile.model.base),
        },
        columns=columns,
        inference=InferenceSpec(
            profile=params.profile, restore=profile.restore, ground=profile.ground, caption=profile.caption
        ),
    )
