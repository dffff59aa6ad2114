"""What SeeSR is made of: its section of `params.yaml` and its `config.json`, no torch import.

Defaults are the paper's sizes.
"""

from typing import Literal

from spasemsr.backends.extractors.spec import RowsSpec
from spasemsr.methods.guided_spec import GuidedConfig, GuidedSection, TaggedSpec
from spasemsr.spec import Spec

FEATURES = "features/seesr"  # the method's own column


class SeeSRSpec(TaggedSpec):
    """SeeSR around one base denoiser.

    `rca` off is the first row of Table 7: no representation cross-attention. `prompts` says what conditions restoring,
    the other two rows: tags alone, the representation alone, or both. Training never goes without the representation.
    """

    rca: bool = True
    prompts: Literal["both", "hard", "soft"] = "both"

    @property
    def own_column(self) -> str:
        """The column of the soft prompt."""
        return FEATURES


class SeeSRFeaturesSpec(Spec):
    """What is extracted from what the network is shown: the soft prompt, DAPE's representation in the paper."""

    soft: RowsSpec


class SeeSRSection(GuidedSection):
    """The method's part of a profile."""

    model: SeeSRSpec
    features: SeeSRFeaturesSpec


class SeeSRConfig(GuidedConfig):
    """`config.json` beside the method's weights."""

    method: Literal["seesr"]
    model: SeeSRSpec
    features: SeeSRFeaturesSpec
