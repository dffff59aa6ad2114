"""Kinds of restorer, the paper's degradation removal module (DRM)."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.spec import Positive, Spec, WeightsSpec


class FilterRestorerSpec(Spec):
    """A restorer without weights: an edge-preserving filter on lr, then bicubic."""

    kind: Literal["filter"]
    batch_size: Positive = 1


class CompactRestorerSpec(Spec):
    """Embedded restorer: a small network (Real-ESRGAN's Compact) whose weights ship with this project."""

    kind: Literal["compact"]
    batch_size: Positive = 1


class SpandrelRestorerSpec(WeightsSpec):
    """Any x4 network that spandrel knows (RRDBNet, SwinIR, ...), in tiles of `tile` lr pixels with a margin."""

    kind: Literal["spandrel"]
    tile: Annotated[int, Field(ge=32)] = 512
    margin: Annotated[int, Field(ge=0)] = 16
    batch_size: Positive = 1


RestorerSpec = Annotated[FilterRestorerSpec | CompactRestorerSpec | SpandrelRestorerSpec, Field(discriminator="kind")]
