"""What the toy is made of."""

from typing import Literal

from spasemsr.methods.face import Section
from spasemsr.methods.model_config import MethodSpec, ModelConfig
from spasemsr.spec import Positive, Spec

COLUMN = "features/toy"


class ToySpec(MethodSpec):
    """What it is shown, and the channels of its one hidden layer."""

    input: Literal["lr"] = "lr"
    width: Positive = 4

    @property
    def columns(self) -> frozenset[str]:
        """hr is what it learns, its own column says how much colour there is."""
        return frozenset({"lr", "hr", COLUMN})

    @property
    def restore_columns(self) -> frozenset[str]:
        """It is shown nothing but lr."""
        return frozenset({"lr"})


class ToyFeatures(Spec):
    """Cells a side of its own column."""

    cells: Positive = 4


class ToySection(Section):
    """`<profile>.methods.toy`."""

    model: ToySpec
    features: ToyFeatures


class ToyConfig(ModelConfig):
    """`config.json` beside its weights."""

    method: Literal["toy"]
    model: ToySpec
