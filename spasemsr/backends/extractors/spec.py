"""Kinds of feature extractor: the frozen vision models whose features a method learns from."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.backends.identity import Identity, identify
from spasemsr.backends.networks.spec import SAM_PATCH, SamArchitecture, size_of
from spasemsr.spec import Positive, Spec, WeightsSpec

CELL = 8  # pixels of a filter bank's cell
VERSIONS = {"filter_bank": 1, "sam": 1}  # raised when the same image gets other features


class FilterBankSpec(Spec):
    """Embedded image features in the place of SAM: fixed multi-scale filters, one cell per latent cell."""

    kind: Literal["filter_bank"]
    channels: Positive = 16
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the features of a square image of `side` pixels."""
        return self.channels, side // CELL, side // CELL


class SamFeaturesSpec(WeightsSpec):
    """Segment Anything's image encoder; `unit_scale` takes off the scale and shift of its last normalisation."""

    kind: Literal["sam"]
    architecture: SamArchitecture = "vit_h"
    unit_scale: bool = True
    batch_size: Positive = 1

    def shape(self, side: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the features of a square image: every size is resized to the network's."""
        size = size_of(self.architecture)
        return size.channels, size.image_size // SAM_PATCH, size.image_size // SAM_PATCH


ExtractorSpec = Annotated[FilterBankSpec | SamFeaturesSpec, Field(discriminator="kind")]


def identity_of(spec: ExtractorSpec) -> Identity:
    """What computes the features; SAM's are another result than its masks."""
    return identify(spec, VERSIONS, "sam_features" if spec.kind == "sam" else None)
