"""What MegaSR is made of: its section of `params.yaml` and its `config.json`, no torch import.

Defaults are the paper's sizes.
"""

from typing import Literal

from spasemsr.backends.extractors.spec import LabelsSpec, MapSpec, RowsSpec
from spasemsr.methods.guided_spec import GuidedConfig, GuidedSection, TaggedSpec
from spasemsr.spec import Spec

FEATURES = "features/megasr"  # the method's own column


class MegaSRSpec(TaggedSpec):
    """MegaSR around one base denoiser.

    The ablations are switches: `cism2` off is Table 3, `edges` (H) and `regions` (D and S) are Table 4; `rca` is the
    cross-attention to the recogniser's representation that MegaSR takes over from SeeSR.
    """

    cism2: bool = True
    rca: bool = True
    edges: bool = True
    regions: bool = True

    @property
    def own_column(self) -> str:
        """The column of maps and rows that `MegaSRFeaturesSpec` describes."""
        return FEATURES


class MegaSRFeaturesSpec(Spec):
    """What is extracted from what the network is shown, in the paper by DAGE's students and DAPE.

    `edges`, `depth` and `regions` are maps, `image` the rows CISM2 translates, `soft` the rows RCA reads.
    """

    edges: MapSpec
    depth: MapSpec
    regions: LabelsSpec
    image: RowsSpec
    soft: RowsSpec


class MegaSRSection(GuidedSection):
    """The method's part of a profile."""

    model: MegaSRSpec
    features: MegaSRFeaturesSpec


class MegaSRConfig(GuidedConfig):
    """`config.json` beside the method's weights."""

    method: Literal["megasr"]
    model: MegaSRSpec
    features: MegaSRFeaturesSpec
