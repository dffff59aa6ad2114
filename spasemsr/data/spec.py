"""Which photographs, how they are cut and split, and how they are degraded: sections `data` and `degradation`."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from spasemsr.scenes.spec import ScenesSpec
from spasemsr.spec import DISTINCT, NUMBER, Fraction, Positive, Spec

Range = tuple[Annotated[float, NUMBER], Annotated[float, NUMBER]]
PresetName = Literal["seesr", "stablesr", "camera", "mild", "mixture"]
DOMAINS = {  # field of DegradationRanges, of either pass -> what its range must lie in, and what that means
    "resize_range": (0.1, 4.0, "factors from 0.1 to 4"),
    "noise_range": (0.0, 255.0, "standard deviations in grey levels, 0 to 255"),
    "poisson_scale_range": (0.0, 10.0, "factors from 0 to 10"),
    "jpeg_range": (1.0, 100.0, "JPEG qualities from 1 to 100"),
}
MIN_SIDE = 80  # of hr: the largest kernel reaches 10 px, and the first resize may leave 0.15 of the side


class DegradationRanges(Spec):
    """Ranges of the second-order Real-ESRGAN chain; `None` takes the preset's value (`data/presets.py`)."""

    resize_range: Range | None = None
    noise_range: Range | None = None
    poisson_scale_range: Range | None = None
    jpeg_range: Range | None = None
    second_blur_prob: Fraction | None = None
    resize_range2: Range | None = None
    noise_range2: Range | None = None
    poisson_scale_range2: Range | None = None
    jpeg_range2: Range | None = None

    @field_validator(*DOMAINS, *(f"{name}2" for name in DOMAINS))
    @classmethod
    def _makes_sense(cls, given: Range | None, info: ValidationInfo) -> Range | None:
        field = str(info.field_name).removesuffix("2")
        low, high, meaning = DOMAINS[field]
        if given is None:
            return None
        if not low <= given[0] <= given[1] <= high:
            raise ValueError(f"not a range of {meaning}; give [low, high] with low <= high in these bounds")
        if field == "resize_range" and not given[0] <= 1.0 <= given[1]:
            raise ValueError("must hold 1: down draws from [low, 1] and up from [1, high]")
        if field == "jpeg_range" and given[0] >= 100.0:
            raise ValueError("must begin below 100, at which basicsr's JPEG divides by zero")
        return given


class MixtureShares(Spec):
    """How many of the samples get each preset under `preset: mixture`; the shares sum to 1."""

    camera: Fraction = 0.35
    mild: Fraction = 0.15
    stablesr: Fraction = 0.25
    seesr: Fraction = 0.25

    @model_validator(mode="after")
    def _sum(self) -> "MixtureShares":
        if abs(sum(self.plain().values()) - 1) > 1e-6:
            raise ValueError("the shares of a mixture must sum to 1")
        return self


class DegradationSpec(Spec):
    """How hr is degraded: a named preset and, for the Real-ESRGAN chains, what is changed in it.

    `usm_target` sharpens hr before degrading; `mixture` is read by the preset of that name alone.
    """

    preset: PresetName = "seesr"
    usm_target: bool = False
    override: DegradationRanges = DegradationRanges()
    mixture: MixtureShares = MixtureShares()

    @model_validator(mode="after")
    def _overridden(self) -> "DegradationSpec":
        if self.preset in ("camera", "mild") and self.override != DegradationRanges():
            raise ValueError("override changes ranges of seesr and stablesr; camera and mild have none of them")
        return self

    def content(self) -> dict[str, Any]:
        """`plain` without shares that the preset does not read."""
        return {key: value for key, value in self.plain().items() if key != "mixture" or self.preset == "mixture"}


class AreaMeanSpec(Spec):
    """lr is the mean of every cell of hr with Gaussian noise of `noise` grey levels, whatever `degradation` says."""

    kind: Literal["area"]
    noise: Annotated[float, Field(ge=0.0, le=50.0), NUMBER]


class DataSpec(Spec):
    """Which photographs, how they are split by image and cut into patches; sizes in pixels.

    `scenes` stand in the place of photographs, in packages and in the folder. `lr` null: degraded as the section
    `degradation` says. `hold_out` unseen: of the packages' photographs those that no weights of this project were
    trained on validate and the others train, and `val_fraction` is of the folder's; hash: of all.
    """

    scenes: ScenesSpec | None = None
    lr: AreaMeanSpec | None = None
    packages: Annotated[tuple[Literal["skimage", "sklearn", "matplotlib", "pyiqa"], ...], DISTINCT] = ()
    hold_out: Literal["unseen", "hash"] = "hash"
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0), NUMBER] = 0.1
    patch: Positive = 512
    stride: Positive = 512
    max_patches: Positive = 1000
    val_patch: Positive = 512
    val_max_patches: Positive = 1
    variants: Positive = 1
    num_buckets: Positive = 64
    max_pixels: Positive = 100_000_000
    max_bytes: Positive = 200_000_000
    max_reject_rate: Fraction = 0.5

    @model_validator(mode="after")
    def _sizes(self) -> "DataSpec":
        for name in ("patch", "val_patch"):
            if getattr(self, name) % 64:
                raise ValueError(f"{name} must be a multiple of 64 (8 latent cells of 8 pixels)")
            if self.lr is None and getattr(self, name) < MIN_SIDE:
                raise ValueError(f"{name} must be at least {MIN_SIDE} pixels: the degradations' blur reaches so far")
            if self.scenes is not None and getattr(self, name) != self.scenes.side:
                raise ValueError(f"{name} must be scenes.side, {self.scenes.side}: a scene is one patch")
        if self.scenes is not None and self.packages:
            raise ValueError("packages must be empty with scenes: what is known of scenes is not known of photographs")
        return self
