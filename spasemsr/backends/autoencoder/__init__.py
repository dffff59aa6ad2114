"""Autoencoder: images <-> the latents that the diffusion runs on."""

from typing import TYPE_CHECKING, assert_never

from spasemsr.backends.autoencoder.spec import AutoencoderKLSpec, AutoencoderSpec, BlockDCTSpec

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder


def build_autoencoder(spec: AutoencoderSpec, device: str = "auto") -> "Autoencoder":
    """The autoencoder of a spec; "auto" is the CPU for the embedded one, a GPU for a network if there is one."""
    match spec:
        case BlockDCTSpec():
            from spasemsr.backends.autoencoder.block_dct import BlockDCT

            return BlockDCT(spec).to("cpu" if device == "auto" else device)
        case AutoencoderKLSpec():
            from spasemsr.backends.autoencoder.autoencoder_kl import KLAutoencoder

            return KLAutoencoder(spec, device)
    assert_never(spec)
