"""The sections `evaluate` and `dial` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.spec import Positive, Spec

MetricName = Literal["psnr", "ssim", "niqe", "stlpips", "lpips", "dists", "musiq", "maniqa", "maniqa-pipal", "clipiqa"]

SweepName = Literal["dial", "start", "guidance", "steps", "colorfix", "consistency"]


class EvaluateSpec(Spec):
    """Which metrics, and how images are restored for them."""

    metrics: tuple[MetricName, ...] = ("psnr", "ssim", "niqe")
    batch_size: Positive = 1
    sample: SampleSpec = SampleSpec()


class DialSpec(Spec):
    """Which sampling-time settings of trained weights are swept, on the first `images` (0: all) of the split.

    `seeds` results of each of these images make the map of what the network invents.
    """

    sweeps: tuple[SweepName, ...] = ("dial", "consistency")
    images: Annotated[int, Field(ge=0)] = 8
    seeds: Annotated[int, Field(ge=2)] = 4
