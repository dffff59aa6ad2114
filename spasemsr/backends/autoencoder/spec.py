"""Kinds of autoencoder, the space the diffusion runs in."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.spec import Positive, Precision, Spec, WeightsSpec


class BlockDCTSpec(Spec):
    """Embedded autoencoder (DCTdiff): 8x8 block DCT of YCbCr, the `keep` x `keep` lowest terms, 3 keep^2 channels."""

    kind: Literal["block_dct"]
    keep: Annotated[int, Field(ge=1, le=8)] = 4
    batch_size: Positive = 1


class AutoencoderKLSpec(WeightsSpec):
    """Stable Diffusion's autoencoder: the `vae` folder of a checkpoint."""

    kind: Literal["autoencoder_kl"]
    precision: Precision = "fp32"
    batch_size: Positive = 1


AutoencoderSpec = Annotated[BlockDCTSpec | AutoencoderKLSpec, Field(discriminator="kind")]
