"""Tagger, detector and segmenter: which things are where (paper, sec. 3.2, eq. 4)."""

from typing import TYPE_CHECKING, assert_never

from spasemsr.backends.grounding.spec import (
    ActivationDetectorSpec,
    ComponentDetectorSpec,
    ComponentSegmenterSpec,
    DetectorSpec,
    EfficientNetLiteTaggerSpec,
    GroundingDinoSpec,
    KnownDetectorSpec,
    KnownSegmenterSpec,
    KnownTaggerSpec,
    LlavaTaggerSpec,
    PackagedGroundingDinoSpec,
    PaletteTaggerSpec,
    SamSegmenterSpec,
    SegmenterSpec,
    TaggerSpec,
    VocabularyTaggerSpec,
)

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Detector, Segmenter, Tagger


def build_tagger(spec: TaggerSpec, device: str = "auto") -> "Tagger":
    """The tagger of a spec; the embedded one needs no device, others take `choose_device`'s words."""
    match spec:
        case PaletteTaggerSpec():
            from spasemsr.backends.grounding.palette import PaletteTagger

            return PaletteTagger()
        case EfficientNetLiteTaggerSpec():
            from spasemsr.backends.grounding.efficientnet_lite import EfficientNetLiteTagger

            return EfficientNetLiteTagger(spec)
        case VocabularyTaggerSpec():
            from spasemsr.backends.grounding.vocabulary import VocabularyTagger

            return VocabularyTagger(spec)
        case LlavaTaggerSpec():
            from spasemsr.backends.networks.llava import LlavaTagger

            return LlavaTagger(spec, device)
        case KnownTaggerSpec():
            from spasemsr.backends.grounding.known import KnownTagger

            return KnownTagger(spec.scenes)
    assert_never(spec)


def build_detector(spec: DetectorSpec, device: str = "auto") -> "Detector":
    """The detector of a spec; the embedded one needs no device, others take `choose_device`'s words."""
    match spec:
        case ComponentDetectorSpec():
            from spasemsr.backends.grounding.components import ComponentDetector

            return ComponentDetector()
        case ActivationDetectorSpec():
            from spasemsr.backends.grounding.efficientnet_lite import ActivationDetector

            return ActivationDetector(spec)
        case GroundingDinoSpec():
            from spasemsr.backends.grounding.grounding_dino import GroundingDino

            return GroundingDino(spec, device)
        case PackagedGroundingDinoSpec():
            from spasemsr.backends.grounding.groundingdino_package import PackagedGroundingDino

            return PackagedGroundingDino(spec, device)
        case KnownDetectorSpec():
            from spasemsr.backends.grounding.known import KnownDetector

            return KnownDetector(spec.scenes)
    assert_never(spec)


def build_segmenter(spec: SegmenterSpec, device: str = "auto") -> "Segmenter":
    """The segmenter of a spec; the embedded one needs no device, others take `choose_device`'s words."""
    match spec:
        case ComponentSegmenterSpec():
            from spasemsr.backends.grounding.components import ComponentSegmenter

            return ComponentSegmenter()
        case SamSegmenterSpec():
            from spasemsr.backends.networks.sam import SamSegmenter

            return SamSegmenter(spec, device)
        case KnownSegmenterSpec():
            from spasemsr.backends.grounding.known import KnownSegmenter

            return KnownSegmenter(spec.scenes)
    assert_never(spec)
