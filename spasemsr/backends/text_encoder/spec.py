"""Kinds of text encoder."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from spasemsr.backends.identity import Identity, identify
from spasemsr.spec import NUMBER, Positive, Spec, WeightsSpec

VERSIONS = {"hashed": 1, "clip": 1}  # raised when the same text gets other states


class HashedTextSpec(Spec):
    """Embedded text encoder: a fixed Gaussian vector per word."""

    kind: Literal["hashed"]
    width: Positive = 64
    length: Annotated[int, Field(ge=4), NUMBER] = 16

    @property
    def states(self) -> tuple[int, int]:
        """Rows and width of a text's states."""
        return self.length, self.width


class ClipTextSpec(WeightsSpec):
    """CLIP's text model: the `text_encoder` and `tokenizer` folders of a Stable Diffusion checkpoint."""

    parts: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer")
    kind: Literal["clip"]

    @property
    def states(self) -> tuple[int, int]:
        """Rows and width of a text's states in Stable Diffusion 1 or 2; the checkpoint need not be here."""
        return 77, 768 if self.source == "sd-1.5" else 1024


TextEncoderSpec = Annotated[HashedTextSpec | ClipTextSpec, Field(discriminator="kind")]


def identity_of(spec: TextEncoderSpec) -> Identity:
    """What encodes texts."""
    return identify(spec, VERSIONS)
