"""Kinds of text encoder."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.spec import Positive, Spec, WeightsSpec


class HashedTextSpec(Spec):
    """Embedded text encoder: a fixed Gaussian vector per word."""

    kind: Literal["hashed"]
    width: Positive = 64
    length: Annotated[int, Field(ge=4)] = 16


class ClipTextSpec(WeightsSpec):
    """CLIP's text model: the `text_encoder` and `tokenizer` folders of a Stable Diffusion checkpoint."""

    kind: Literal["clip"]


TextEncoderSpec = Annotated[HashedTextSpec | ClipTextSpec, Field(discriminator="kind")]
