"""Feature extractors: frozen vision models that turn an image into arrays a method learns from."""

from typing import TYPE_CHECKING, assert_never

from spasemsr.backends.extractors.spec import (
    AnyExtractorSpec,
    ClipVisionSpec,
    ColourLayoutSpec,
    DepthSpec,
    FilterBankSpec,
    FilterRowsSpec,
    KnownFeaturesSpec,
    KnownLabelsSpec,
    PlainMapSpec,
    RamRowsSpec,
    SamFeaturesSpec,
    SegformerFeaturesSpec,
    SegformerLabelsSpec,
    StudentLabelsSpec,
    StudentMapSpec,
    StudentRowsSpec,
    TextureClassesSpec,
)

if TYPE_CHECKING:
    from spasemsr.backends.protocols import FeatureExtractor


def build_extractor(spec: AnyExtractorSpec, device: str = "auto") -> "FeatureExtractor":
    """The feature extractor of a spec; embedded ones need no device, others take `choose_device`'s words."""
    match spec:
        case FilterBankSpec():
            from spasemsr.backends.extractors.filter_bank import FilterBank

            return FilterBank(spec.channels)
        case FilterRowsSpec():
            from spasemsr.backends.extractors.rows import FilterRows

            return FilterRows(spec.filters, spec.grid)
        case ColourLayoutSpec():
            from spasemsr.backends.extractors.rows import ColourLayout

            return ColourLayout(spec.grid)
        case PlainMapSpec():
            from spasemsr.backends.extractors.maps import build_map

            return build_map(spec.kind)
        case TextureClassesSpec():
            from spasemsr.backends.extractors.texture import TextureClasses

            return TextureClasses()
        case KnownLabelsSpec():
            from spasemsr.backends.extractors.known import KnownLabels

            return KnownLabels(spec.scenes)
        case KnownFeaturesSpec():
            from spasemsr.backends.extractors.known import KnownFeatures

            return KnownFeatures(spec.scenes)
        case RamRowsSpec():
            from spasemsr.backends.extractors.ram_rows import RamRows

            return RamRows(spec, device)
        case ClipVisionSpec():
            from spasemsr.backends.extractors.clip_vision import ClipVision

            return ClipVision(spec, device)
        case DepthSpec():
            from spasemsr.backends.extractors.dense import Depth

            return Depth(spec, device)
        case SegformerLabelsSpec():
            from spasemsr.backends.extractors.dense import SegformerLabels

            return SegformerLabels(spec, device)
        case SegformerFeaturesSpec():
            from spasemsr.backends.extractors.dense import SegformerFeatures

            return SegformerFeatures(spec, device)
        case SamFeaturesSpec():
            from spasemsr.backends.networks.sam import SamFeatures

            return SamFeatures(spec, device)
        case StudentMapSpec() | StudentLabelsSpec() | StudentRowsSpec():
            from spasemsr.backends.extractors.student import Student

            return Student(spec)
    assert_never(spec)
