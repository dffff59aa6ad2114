"""What is known of a method before it is built: its name on pages, its params, its columns, and how it is made.

Each method's folder has one, `FACE` in its `face.py`. Importing it imports no torch: whoever reads params waits for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from spasemsr.backends.autoencoder.spec import AutoencoderSpec
from spasemsr.backends.captioner.spec import CaptionerSpec
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.restorer.spec import RestorerSpec
from spasemsr.backends.text_encoder.spec import TextEncoderSpec
from spasemsr.methods.model_config import InferenceSpec, MethodSpec, ModelConfig
from spasemsr.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from spasemsr.data.columns import Column
    from spasemsr.data.job import ColumnJob
    from spasemsr.methods.protocol import Method


class Section(Spec):
    """`<profile>.methods.<name>` of `params.yaml`; a method narrows `model` and `features` to specs of its own.

    `train` states what differs from `<profile>.train` for this method.
    """

    model: MethodSpec
    features: Spec
    train: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, given: "Ingredients") -> Self:
        """The section of these ingredients, as the type it is."""
        assert isinstance(given.section, cls), f"a section of {type(given.section).__name__}, not {cls.__name__}"
        return given.section


@dataclass(frozen=True)
class Ingredients:
    """What `params.yaml` gives a method in one profile: its own section, and what all methods share.

    `patch` are the pixels of a side of hr in training, `variants` the degraded versions of each.
    """

    profile: str
    seed: int
    scale: int
    lambda_: float
    patch: int
    variants: int
    section: Section
    autoencoder: AutoencoderSpec
    text_encoder: TextEncoderSpec
    restore: RestorerSpec
    ground: GroundSpec
    caption: CaptionerSpec

    @property
    def inference(self) -> InferenceSpec:
        """What upscaling needs beside the weights."""
        return InferenceSpec(profile=self.profile, restore=self.restore, ground=self.ground, caption=self.caption)


class Traced(ABC):
    """A method's training step on tensors that have shapes and no contents, for counting what it takes.

    `network` is what is trained and what stands frozen in it.
    """

    network: "nn.Module"

    @abstractmethod
    def trainable(self) -> "dict[str, nn.Module]":
        """The trained parts of `network`, by name."""

    @abstractmethod
    def checkpoint(self, on: bool) -> None:
        """Whether activations are computed again in backward."""

    @abstractmethod
    def loss(self, samples: int) -> "Tensor":
        """The sum of all losses of a micro-batch."""


@dataclass(frozen=True)
class Variant:
    """A row of the paper's ablation tables: its name there, its values of `Face.switches`, the tables it stands in."""

    label: str
    values: tuple[Any, ...]
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """Another reading of a row of the paper's tables: what it sets in the method's section beside the row's switches.

    `begun`: the first phase is trained under it too, because it would otherwise have seen what the reading leaves out,
    or be weights of another shape.
    """

    label: str
    variant: Variant
    settings: Mapping[str, Any]
    begun: bool = True


class Face(ABC):
    """A method as everything else knows it.

    `version` is raised when the same weights and inputs give other pixels. `smaller` says what to set in params for a
    network that needs less memory, where there is such a thing. `switches` are keys below the method's section that
    `variants` set, the first of which is the whole method; `first` are their values in the first phase from which all
    variants train, every part under test off, None where each trains by itself; `readings` are values of settings on
    which the paper can be read in several ways, `second_readings` those that are trained only when asked for. `card` is
    one sentence about what it does. `tables` are titles of the paper's tables by the names that `variants` and
    `published.csv` beside the face use, the first being that of whole methods.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    version: ClassVar[int]
    section: ClassVar[type[Section]]
    config: ClassVar[type[ModelConfig]]
    card: ClassVar[str]
    smaller: ClassVar[str] = ""
    switches: ClassVar[tuple[str, ...]] = ()
    variants: ClassVar[tuple[Variant, ...]] = ()
    first: ClassVar[tuple[Any, ...] | None] = None
    readings: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    second_readings: ClassVar[tuple[Reading, ...]] = ()
    tables: ClassVar[Mapping[str, str]] = {}

    def check(self, given: Ingredients) -> None:
        """Raise ValueError, naming the keys, where the method's section does not fit the others."""
        del given  # most methods have nothing to add to what their specs check

    @abstractmethod
    def columns(self) -> "tuple[Column, ...]":
        """The method's own columns, beyond the common ones."""

    @abstractmethod
    def jobs(self, given: Ingredients) -> "tuple[ColumnJob, ...]":
        """How its own columns are made; stage `features` runs them."""

    @abstractmethod
    def describe(self, given: Ingredients, columns: Mapping[str, str]) -> ModelConfig:
        """`config.json` for weights that are trained on columns of these digests. Loads no model."""

    @abstractmethod
    def construct(self, config: Any) -> "Method":
        """The method, its weights drawn from torch's generator."""

    @abstractmethod
    def trace(self, given: Ingredients) -> Traced:
        """The training step, for `spasemsr plan`; called where tensors hold nothing. Loads no model."""

    def card_rows(self, config: Any) -> dict[str, str]:
        """What a model card says of these weights beyond what is common to all methods."""
        return {}

    def build(self, config: ModelConfig) -> "Method":
        """The method with freshly drawn weights: a function of `config.seed`, not of what was drawn before.

        Pin threads first where bytes matter.
        """
        import torch

        from spasemsr.randomness import derive_seed

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "weights", self.name))
            return self.construct(config)
