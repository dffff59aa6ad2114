"""What SeeSR is made of: its section of `params.yaml` and its `config.json`, no torch import.

Defaults are the paper's sizes.
"""

from typing import Literal

from spasemsr.backends.extractors.spec import RowsSpec
from spasemsr.methods.guided_spec import GuidedConfig, GuidedSection, GuidedSpec
from spasemsr.spec import Fraction, Positive, Spec

FEATURES = "features/seesr"  # the method's own column


class SeeSRSpec(GuidedSpec):
    """SeeSR around one base denoiser.

    `hint_channels` are the widths of the convs that show lr to the ControlNet. `rca` off is the first row of Table 7:
    no representation cross-attention. `prompts` says what conditions restoring, the other two rows: tags alone, the
    representation alone, or both. `drop_tags` is how often training goes without tags, so that guidance has an
    unconditional branch; the representation is always given.
    """

    hint_channels: tuple[Positive, Positive, Positive, Positive] = (16, 32, 96, 256)
    rca: bool = True
    prompts: Literal["both", "hard", "soft"] = "both"
    drop_tags: Fraction = 0.5

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
