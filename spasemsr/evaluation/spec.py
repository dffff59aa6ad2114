"""The sections `evaluate`, `audit` and `dial` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from spasemsr.diffusion.spec import Precision, SampleSpec
from spasemsr.methods import names
from spasemsr.methods.compared import row_name
from spasemsr.spec import DISTINCT, NUMBER, Positive, Spec, later

MetricName = Literal[
    "psnr", "ssim", "niqe", "texture", "stlpips", "lpips", "dists", "musiq", "maniqa", "maniqa-pipal", "clipiqa"
]

SweepName = Literal["dial", "start", "guidance", "steps", "colorfix", "consistency"]


class EvaluateSpec(Spec):
    """Which metrics, what the method is compared with (`methods/compared.py`), and how images are restored.

    `precision` is what the method's network computes in, `batch_size` how many pictures of one size it is given at once
    (in `audit` and `dial` too). A picture's noise is its own in any batch, so in fp32 the size changes rounding alone.
    """

    metrics: Annotated[tuple[MetricName, ...], DISTINCT] = ("psnr", "ssim", "niqe")
    baselines: tuple[Annotated[str, Field(pattern=r"^(.*/)?[A-Za-z0-9_-][\w.-]*$")], ...] = ("bicubic", "restorer")
    precision: Precision = "fp32"
    batch_size: Positive = later(1)
    sample: SampleSpec = SampleSpec()

    @field_validator("baselines")
    @classmethod
    def _one_row_each(cls, baselines: tuple[str, ...]) -> tuple[str, ...]:
        rows = [row_name(name) for name in baselines]
        if twice := sorted({row for row in rows if rows.count(row) > 1 or row in ("hr", "lr", *names())}):
            raise ValueError(f"{', '.join(twice)} would name two things in the tables; rename the file")
        return baselines


class AuditSpec(Spec):
    """On how many images of the split, each under `seeds` noises, conditions are removed and replaced."""

    images: Annotated[int, Field(ge=2), NUMBER] = 8
    seeds: Positive = 1


class DialSpec(Spec):
    """Which sampling-time settings of trained weights are swept, on the first `images` (0: all) of the split.

    `seeds` results of each of these images make the map of what the network invents.
    """

    sweeps: Annotated[tuple[SweepName, ...], DISTINCT] = ("dial", "consistency")
    images: Annotated[int, Field(ge=0), NUMBER] = 8
    seeds: Annotated[int, Field(ge=2), NUMBER] = 4
