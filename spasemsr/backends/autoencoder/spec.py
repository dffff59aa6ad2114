"""Kinds of autoencoder, the space the diffusion runs in."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from spasemsr.backends.identity import Identity, identify
from spasemsr.spec import NUMBER, Positive, Precision, Spec, WeightsSpec

VERSIONS = {"block_dct": 1, "autoencoder_kl": 1}  # raised when the same image gets other moments, or decodes otherwise
DOWNSCALE = 8  # pixels of a latent cell's side


class BlockDCTSpec(Spec):
    """Embedded autoencoder (DCTdiff): 8x8 block DCT of YCbCr, the `keep` x `keep` lowest terms, 3 keep^2 channels."""

    kind: Literal["block_dct"]
    keep: Annotated[int, Field(ge=1, le=8), NUMBER] = 4
    batch_size: Positive = 1

    @property
    def channels(self) -> int:
        """C of a latent: `keep` squared terms of each of Y, Cb, Cr."""
        return 3 * self.keep**2


class AutoencoderKLSpec(WeightsSpec):
    """Stable Diffusion's autoencoder: the `vae` folder of a checkpoint."""

    parts: ClassVar[tuple[str, ...]] = ("vae",)
    kind: Literal["autoencoder_kl"]
    precision: Precision = "fp32"
    batch_size: Positive = 1

    @property
    def channels(self) -> int:
        """Of a latent; all of Stable Diffusion 1 and 2 have four."""
        return 4


AutoencoderSpec = Annotated[BlockDCTSpec | AutoencoderKLSpec, Field(discriminator="kind")]


def identity_of(spec: AutoencoderSpec) -> Identity:
    """What computes the latents."""
    return identify(spec, VERSIONS)
