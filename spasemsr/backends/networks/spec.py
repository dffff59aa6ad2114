"""Networks that several roles share: sizes, and names in the registry of weights."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.spec import Positive, Spec

STLPIPS = "stlpips-alex"  # a metric, and a loss
LPIPS = "lpips-alex"  # a metric


class SamSizeSpec(Spec):
    """The image encoder of a Segment Anything checkpoint that is none of the three published ones."""

    width: Positive
    depth: Positive
    heads: Positive
    global_attention: tuple[Annotated[int, Field(ge=0)], ...]
    image_size: Positive = 1024
    channels: Positive = 256


SamArchitecture = Literal["vit_h", "vit_l", "vit_b"] | SamSizeSpec
SAM_PATCH = 16  # pixels of the resized image a cell's side stands for
_PUBLISHED = {
    "vit_h": SamSizeSpec(width=1280, depth=32, heads=16, global_attention=(7, 15, 23, 31)),
    "vit_l": SamSizeSpec(width=1024, depth=24, heads=16, global_attention=(5, 11, 17, 23)),
    "vit_b": SamSizeSpec(width=768, depth=12, heads=12, global_attention=(2, 5, 8, 11)),
}


def size_of(architecture: SamArchitecture) -> SamSizeSpec:
    """The numbers behind a name."""
    return _PUBLISHED[architecture] if isinstance(architecture, str) else architecture


class RamSizeSpec(Spec):
    """A Recognize Anything checkpoint: Swin image encoder, width of the representation, tagging head.

    Defaults are `ram_swin_large_14m.pth`.
    """

    image_size: Positive = 384
    embed_dim: Positive = 192
    depths: tuple[Positive, Positive, Positive, Positive] = (2, 2, 18, 2)
    heads: tuple[Positive, Positive, Positive, Positive] = (6, 12, 24, 48)
    window: Positive = 12
    width: Positive = 512
    tags: Positive = 4585
    head_width: Positive = 768
    head_heads: Positive = 4

    @property
    def rows(self) -> int:
        """Rows of the representation: the whole, and cells of 32 px."""
        return 1 + (self.image_size // 32) ** 2


RamArchitecture = Literal["swin_l"] | RamSizeSpec


def ram_size_of(architecture: RamArchitecture) -> RamSizeSpec:
    """The numbers behind a name."""
    return RamSizeSpec() if isinstance(architecture, str) else architecture
