"""Sizes of networks that several roles share."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.spec import Positive, Spec


class SamSizeSpec(Spec):
    """The image encoder of a Segment Anything checkpoint that is none of the three published ones."""

    width: Positive
    depth: Positive
    heads: Positive
    global_attention: tuple[Annotated[int, Field(ge=0)], ...]
    image_size: Positive = 1024
    channels: Positive = 256


SamArchitecture = Literal["vit_h", "vit_l", "vit_b"] | SamSizeSpec
