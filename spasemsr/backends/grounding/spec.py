"""Kinds of tagger, detector and segmenter: what finds and names the objects of an image."""

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from spasemsr.backends.extractors.spec import StudentLabelsSpec, TextureClassesSpec
from spasemsr.backends.identity import Identity, identify
from spasemsr.backends.networks.spec import SamArchitecture
from spasemsr.hashing import fingerprint
from spasemsr.scenes.spec import ScenesSpec
from spasemsr.spec import Endpoint, Fraction, Positive, Revision, Spec, WeightsSpec, later

log = logging.getLogger(__name__)

# Raised when the same image gets other tags, boxes or masks.
VERSIONS = {
    "tagger": {"palette": 1, "efficientnet_lite": 1, "vocabulary": 1, "llava": 1, "known": 1},
    "detector": {"components": 1, "activation": 1, "grounding_dino": 1, "groundingdino": 1, "known": 1},
    "segmenter": {"components": 1, "sam": 1, "known": 1},
    "textures": {"areas": 2, "student_labels": 1},
}
RECOGNISER = Path(__file__).parent / "recogniser.safetensors"  # the weights of TexturesSpec's student


class PaletteTaggerSpec(Spec):
    """Embedded tagger: colour and texture classes of smooth regions."""

    kind: Literal["palette"]


class EfficientNetLiteTaggerSpec(WeightsSpec):
    """EfficientNet-Lite0: at most `max_names` names of ImageNet's where it is sure, the palette's below that.

    Without the package that holds its weights the palette serves alone.
    """

    kind: Literal["efficientnet_lite"]
    source: Annotated[str, Field(min_length=1)] = "efficientnet-lite0"
    precision: Literal["fp32"] = "fp32"
    min_score: Fraction = 0.4  # half of what it then names is among the objects that people marked (benchmarks)
    max_names: Positive = 3


class VocabularyTaggerSpec(Spec):
    """Every name of a list is asked for in every image; the detector decides. `names`: one per line, null is ours."""

    kind: Literal["vocabulary"]
    names: str | None = None


class LlavaTaggerSpec(WeightsSpec):
    """LLaVA lists the objects of an image; `endpoint` as for the captioner."""

    kind: Literal["llava"]
    precision: Literal["fp32", "bf16", "fp16", "nf4"] = "bf16"  # type: ignore[assignment]  # one more than others
    endpoint: Endpoint | None = None
    question: Annotated[str, Field(min_length=1)]
    max_new_tokens: Positive = 96
    max_tags: Positive = 20


class KnownTaggerSpec(Spec):
    """The truth of a procedural scene; in `params.yaml` `scenes` is `data.scenes` and not stated again."""

    kind: Literal["known"]
    scenes: ScenesSpec


class ComponentDetectorSpec(Spec):
    """Embedded detector: connected components of the tagger's classes."""

    kind: Literal["components"]
    min_score: Fraction = 0.25


class ActivationDetectorSpec(WeightsSpec):
    """Where EfficientNet-Lite0 sees the names asked for, and the components of the palette's classes."""

    kind: Literal["activation"]
    source: Annotated[str, Field(min_length=1)] = "efficientnet-lite0"
    precision: Literal["fp32"] = "fp32"
    min_score: Fraction = 0.25


class GroundingDinoSpec(WeightsSpec):
    """GroundingDINO: tags as text, in chunks of as many as its 256 tokens hold."""

    kind: Literal["grounding_dino"]
    min_score: Fraction = 0.25


class PackagedGroundingDinoSpec(WeightsSpec):
    """GroundingDINO by its authors' code and in their `.pth` layout; `tokenizer` is a folder or model of transformers.

    Deformable attention takes the plain PyTorch way, since the package is not compiled.
    """

    kind: Literal["groundingdino"]
    architecture: Literal["swin_t", "swin_b"] = "swin_b"
    tokenizer: Annotated[str, Field(min_length=1)] = "grounding-dino-base"
    min_score: Fraction = 0.25


class KnownDetectorSpec(Spec):
    """The regions of a procedural scene; their score is 1."""

    kind: Literal["known"]
    scenes: ScenesSpec
    min_score: Fraction = 0.25


class ComponentSegmenterSpec(Spec):
    """Embedded segmenter: the component inside each box."""

    kind: Literal["components"]


class SamSegmenterSpec(WeightsSpec):
    """Segment Anything: the mask of each box."""

    kind: Literal["sam"]
    architecture: SamArchitecture = "vit_h"


class KnownSegmenterSpec(Spec):
    """The masks of a procedural scene."""

    kind: Literal["known"]
    scenes: ScenesSpec


TaggerSpec = Annotated[
    PaletteTaggerSpec | EfficientNetLiteTaggerSpec | VocabularyTaggerSpec | LlavaTaggerSpec | KnownTaggerSpec,
    Field(discriminator="kind"),
]
DetectorSpec = Annotated[
    ComponentDetectorSpec | ActivationDetectorSpec | GroundingDinoSpec | PackagedGroundingDinoSpec | KnownDetectorSpec,
    Field(discriminator="kind"),
]
SegmenterSpec = Annotated[ComponentSegmenterSpec | SamSegmenterSpec | KnownSegmenterSpec, Field(discriminator="kind")]


class TexturesSpec(Spec):
    """Areas of like texture beside the objects, at most `most` in a square of 192 px: what of hr lr does not show.

    On hr they are measured. On a restored image a student of `channels` channels guesses them, whose weights ship with
    this project or are `source`; so they are in training for a share of `recognised` of the patches. `doubted`: what is
    guessed is said with "perhaps", so that the network learns how far to trust a guess, and a person's word more.
    """

    most: Positive = 8
    recognised: Fraction = 0.5
    channels: Positive = 64
    doubted: bool = later(False)
    source: str | None = None
    revision: Revision | None = None

    @property
    def student(self) -> StudentLabelsSpec:
        """What guesses, as an extractor."""
        return StudentLabelsSpec(
            kind="student_labels",
            of=TextureClassesSpec(kind="texture_classes"),
            channels=self.channels,
            source=self.source or str(RECOGNISER),
            revision=self.revision,
        )


class GroundSpec(Spec):
    """Grounded-SAM: tags -> boxes -> masks, then the selection rule of the paper's setting; `textures` is our own."""

    tagger: TaggerSpec
    detector: DetectorSpec
    segmenter: SegmenterSpec
    max_objects: Positive = 20
    nms_iou: Fraction = 0.5
    min_area: Fraction = 0.002
    batch_size: Positive = 1
    textures: TexturesSpec | None = None

    @property
    def most(self) -> int:
        """Objects and areas of a patch that a network has to have room for."""
        return self.max_objects + (self.textures.most if self.textures else 0)

    def content(self) -> dict[str, Any]:
        """Without `textures` where there are none, and without where weights lie."""
        content = super().content()
        textures = content.pop("textures")
        return content | (
            {"textures": {"version": VERSIONS["textures"]["areas"], **_sizes(textures)}} if textures else {}
        )


def identity_of(spec: GroundSpec) -> dict[str, list[Identity]]:
    """What finds, places and outlines the objects: tagger, detector, segmenter."""
    tagger = identify(spec.tagger, VERSIONS["tagger"])
    if isinstance(spec.tagger, VocabularyTaggerSpec):  # its list of names is what others have as weights
        from spasemsr.backends.networks.answers import names_in

        tagger["weights_sha256"] = fingerprint(list(names_in(spec.tagger.names)))
    detector = identify(spec.detector, VERSIONS["detector"])
    if isinstance(spec.detector, PackagedGroundingDinoSpec):  # what it reads of texts and pictures lies elsewhere
        from spasemsr.weights.store import locate

        detector["weights_sha256"] = fingerprint([detector["weights_sha256"], locate(spec.detector.tokenizer).sha256])
    models = [tagger, detector, identify(spec.segmenter, VERSIONS["segmenter"])]
    if spec.textures is not None:
        models.append(identify(spec.textures.student, VERSIONS["textures"]))
    return {"models": models}


def _sizes(textures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in textures.items() if name not in ("source", "revision")}


def with_what_is_here(spec: GroundSpec) -> GroundSpec:
    """The spec with palette and components in the place of kinds whose package is not installed, with a warning."""
    changes: dict[str, Spec] = {}
    if isinstance(spec.tagger, EfficientNetLiteTaggerSpec) and _is_absent(spec.tagger):
        changes["tagger"] = PaletteTaggerSpec(kind="palette")
    if isinstance(spec.detector, ActivationDetectorSpec) and _is_absent(spec.detector):
        changes["detector"] = ComponentDetectorSpec(kind="components", min_score=spec.detector.min_score)
    return spec.model_copy(update=changes) if changes else spec


def _is_absent(part: EfficientNetLiteTaggerSpec | ActivationDetectorSpec) -> bool:
    from spasemsr.weights.packages import NotInstalled
    from spasemsr.weights.store import locate

    try:
        locate(part.source, part.revision)
    except NotInstalled as error:
        log.warning("%s: regions serve in its place. %s %s", part.kind, error.what, error.remedy)
        return True
    return False
