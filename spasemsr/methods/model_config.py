"""`config.json` beside trained weights: all it takes to build the model again, and what it was trained on."""

from typing import Annotated, Any, Literal

from pydantic import Field

from spasemsr.backends.autoencoder.spec import AutoencoderSpec
from spasemsr.backends.captioner.spec import CaptionerSpec
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.restorer.spec import RestorerSpec
from spasemsr.backends.text_encoder.spec import TextEncoderSpec
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.methods.spasemsr.spec import ModelSpec
from spasemsr.spec import Fraction, Positive, Spec


class InferenceSpec(Spec):
    """What upscaling needs beside the weights: the chain that annotates an image as in training, and how to sample.

    `sample` is null in a project, where `evaluate.sample` of `params.yaml` says it; a released folder states it.
    """

    profile: Literal["embedded", "foundation"]
    restore: RestorerSpec
    ground: GroundSpec
    caption: CaptionerSpec
    sample: SampleSpec | None = None


class ModelConfig(Spec):
    """`config.json` beside trained weights: all it takes to build the model again, and what it was trained on."""

    method: Literal["spasemsr"]
    seed: int
    scale: Literal[4]
    lambda_: Annotated[Fraction, Field(alias="lambda")]
    controlnet_weight: float
    model: ModelSpec
    autoencoder: AutoencoderSpec
    text_encoder: TextEncoderSpec
    feature_channels: Positive
    identities: dict[str, dict[str, Any]]
    columns: dict[str, str]
    inference: InferenceSpec
