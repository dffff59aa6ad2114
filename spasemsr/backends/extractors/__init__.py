"""Feature extractors: frozen vision models that turn an image into arrays a method learns from."""

from typing import TYPE_CHECKING, assert_never

from spasemsr.backends.extractors.spec import ExtractorSpec, FilterBankSpec, SamFeaturesSpec

if TYPE_CHECKING:
    from spasemsr.backends.protocols import FeatureExtractor


def build_extractor(spec: ExtractorSpec, device: str = "auto") -> "FeatureExtractor":
    """The feature extractor of a spec; the embedded one needs no device, others take `choose_device`'s words."""
    match spec:
        case FilterBankSpec():
            from spasemsr.backends.extractors.filter_bank import FilterBank

            return FilterBank(spec.channels)
        case SamFeaturesSpec():
            from spasemsr.backends.networks.sam import SamFeatures

            return SamFeatures(spec, device)
    assert_never(spec)
