"""SpaSemSR from what `params.yaml` says, and from what lies beside its weights: described once, built from that.

The network is imported when it is built: describing it needs no torch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.autoencoder import spec as autoencoder
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.backends.text_encoder import spec as text_encoder
from spasemsr.diffusion.pretrained import identity_of
from spasemsr.methods.face import Ingredients
from spasemsr.methods.spasemsr.spec import SpaSemConfig, SpaSemSection

if TYPE_CHECKING:
    from spasemsr.methods.spasemsr.method import SpaSemSR


def describe(given: Ingredients, columns: Mapping[str, str]) -> SpaSemConfig:
    """Specs, the frozen parts' identities, and the digests of the columns it learns from. Loads no model.

    Raises UserError for weights of frozen parts that are not here.
    """
    section = SpaSemSection.of(given)
    return SpaSemConfig(
        method="spasemsr",
        seed=given.seed,
        scale=given.scale,
        lambda_=given.lambda_,
        controlnet_weight=section.controlnet_weight,
        model=section.model,
        autoencoder=given.autoencoder,
        text_encoder=given.text_encoder,
        feature_channels=section.features.sam.shape(64)[0],
        identities={
            "autoencoder": autoencoder.identity_of(given.autoencoder),
            "text_encoder": text_encoder.identity_of(given.text_encoder),
            "base": identity_of(section.model.base),
        },
        columns=dict(columns),
        inference=given.inference,
    )


def construct(config: SpaSemConfig) -> "SpaSemSR":
    """The network around its frozen parts, its own weights drawn from torch's generator."""
    from spasemsr.methods.spasemsr.method import SpaSemSR

    return SpaSemSR(
        config.model,
        scale=config.scale,
        lambda_=config.lambda_,
        controlnet_weight=config.controlnet_weight,
        autoencoder=build_autoencoder(config.autoencoder),
        text_encoder=build_text_encoder(config.text_encoder),
        feature_channels=config.feature_channels,
    )
