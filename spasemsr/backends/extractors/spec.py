"""Kinds of feature extractor: the frozen vision models whose features a method learns from."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.backends.networks.spec import SamArchitecture
from spasemsr.spec import Positive, Spec, WeightsSpec


class FilterBankSpec(Spec):
    """Embedded image features in the place of SAM: fixed multi-scale filters, one cell per latent cell."""

    kind: Literal["filter_bank"]
    channels: Positive = 16
    batch_size: Positive = 1


class SamFeaturesSpec(WeightsSpec):
    """Segment Anything's image encoder; `unit_scale` takes off the scale and shift of its last normalisation."""

    kind: Literal["sam"]
    architecture: SamArchitecture = "vit_h"
    unit_scale: bool = True
    batch_size: Positive = 1


ExtractorSpec = Annotated[FilterBankSpec | SamFeaturesSpec, Field(discriminator="kind")]
