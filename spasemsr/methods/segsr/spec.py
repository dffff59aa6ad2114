"""What SegSR is made of: `methods.segsr.model` of `params.yaml`, no torch import. Defaults are the paper's sizes."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.diffusion.spec import BaseSpec, RandomBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.spec import Fraction, Positive, Spec


class SegmentsSpec(Spec):
    """The label diffusion: its steps, and the widths of its denoiser, of a class embedding and of the image's stem."""

    steps: Annotated[int, Field(ge=2)] = 100
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 256
    embedding: Positive = 16
    stem: Annotated[int, Field(ge=8, multiple_of=8)] = 128
    weight: Annotated[float, Field(ge=0.0)] = 1.0


class SegSRSpec(Spec):
    """SegSR around one base denoiser.

    `labels` is where the region labels that guide the image come from, the rows of Table 2: `none` (SRDM alone), `lr`
    (the segmenter's first guess, fixed), `diffusion` (SegDM) or `hr` (the labels of hr, the upper bound). `to_image`
    and `to_labels` are the two directions of the bridge: labels steer the image, the image steers SegDM. `drop_labels`
    is how often training goes without labels, so that guidance has an unconditional branch.
    """

    input: Literal["lr", "restored"] = "lr"
    base: BaseSpec = RandomBaseSpec()
    unet: UNetSpec = UNetSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    labels: Literal["diffusion", "lr", "hr", "none"] = "diffusion"
    to_image: bool = True
    to_labels: bool = True
    segments: SegmentsSpec = SegmentsSpec()
    drop_labels: Fraction = 0.1
    train_base: bool = False
