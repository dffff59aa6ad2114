"""`config.json` beside trained weights: all it takes to build the model again, and what it was trained on."""

from typing import Any, Literal

from spasemsr.backends.captioner.spec import CaptionerSpec
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.restorer.spec import RestorerSpec
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.spec import Spec


class InferenceSpec(Spec):
    """What upscaling needs beside the weights: the chain that annotates an image as in training, and how to sample.

    `sample` is null in a project, where `evaluate.sample` of `params.yaml` says it; a released folder states it.
    """

    profile: Literal["embedded", "probe", "foundation"]
    restore: RestorerSpec
    ground: GroundSpec
    caption: CaptionerSpec
    sample: SampleSpec | None = None


class MethodSpec(Spec):
    """What a network is made of: the section `model` of a method. It knows which columns the network reads."""

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that training joins."""
        raise NotImplementedError

    @property
    def restore_columns(self) -> frozenset[str]:
        """Names of the columns that restoring reads."""
        raise NotImplementedError


class ModelConfig(Spec):
    """What every method's weights are described by; a method adds what its own network is built from.

    `identities` name the frozen parts, `columns` the digests of what was trained on.
    """

    method: str
    seed: int
    scale: Literal[4]
    model: MethodSpec
    identities: dict[str, dict[str, Any]]
    columns: dict[str, str]
    inference: InferenceSpec
