"""What SegSR is made of: its section of `params.yaml` and its `config.json`, no torch import.

Defaults are the paper's sizes.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from spasemsr.backends.extractors.spec import ExtractorSpec, LabelsSpec
from spasemsr.methods.guided_spec import GuidedConfig, GuidedSection, GuidedSpec
from spasemsr.spec import NUMBER, Fraction, Positive, Spec

FEATURES = "features/segsr"  # the method's own column


class SegmentsSpec(Spec):
    """The label diffusion: its steps, and the widths of its denoiser, of a class embedding and of the image's stem."""

    steps: Annotated[int, Field(ge=2), NUMBER] = 100
    width: Annotated[int, Field(ge=8, multiple_of=8), NUMBER] = 256
    embedding: Positive = 16
    stem: Annotated[int, Field(ge=8, multiple_of=8), NUMBER] = 128
    weight: Annotated[float, Field(ge=0.0), NUMBER] = 1.0


class SegSRSpec(GuidedSpec):
    """SegSR around one base denoiser.

    `labels` is where the region labels that guide the image come from, the rows of Table 2: `none` (SRDM alone), `lr`
    (the segmenter's first guess, fixed), `diffusion` (SegDM) or `hr` (the labels of hr, the upper bound). `to_image`
    and `to_labels` are the two directions of the bridge: labels steer the image, the image steers SegDM. `drop_labels`
    is how often training goes without labels, so that guidance has an unconditional branch.
    """

    labels: Literal["diffusion", "lr", "hr", "none"] = "diffusion"
    to_image: bool = True
    to_labels: bool = True
    segments: SegmentsSpec = SegmentsSpec()
    drop_labels: Fraction = 0.1

    @property
    def own_column(self) -> str:
        """Labels of hr and of what is shown, and the segmenter's features."""
        return FEATURES

    @property
    def reads_tags(self) -> bool:
        """The prompt is always empty."""
        return False


class SegSRFeaturesSpec(Spec):
    """`labels` are extracted from hr; `guess` and `lq` (F_lq of the paper) from what the network is shown.

    Where `guess` is not stated it is made as `labels` are.
    """

    labels: LabelsSpec
    guess: LabelsSpec
    lq: ExtractorSpec

    @model_validator(mode="before")
    @classmethod
    def _guessed_alike(cls, raw: Any) -> Any:
        return {"guess": raw["labels"], **raw} if isinstance(raw, dict) and "labels" in raw else raw

    @model_validator(mode="after")
    def _same_classes(self) -> "SegSRFeaturesSpec":
        if self.guess.classes != self.labels.classes:
            raise ValueError(f"guess has {self.guess.classes} classes, labels {self.labels.classes}")
        return self


class SegSRSection(GuidedSection):
    """The method's part of a profile."""

    model: SegSRSpec
    features: SegSRFeaturesSpec


class SegSRConfig(GuidedConfig):
    """`config.json` beside the method's weights."""

    method: Literal["segsr"]
    model: SegSRSpec
    features: SegSRFeaturesSpec
