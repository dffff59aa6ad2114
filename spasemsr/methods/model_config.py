"""The folder of a trained model as it describes itself: `config.json`, and the digest of `weights.safetensors`.

Reading it needs no torch, so that what is wrong with a folder is said before anything heavy is imported.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from spasemsr.backends.autoencoder.spec import AutoencoderSpec
from spasemsr.backends.captioner.spec import CaptionerSpec
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.restorer.spec import RestorerSpec
from spasemsr.backends.text_encoder.spec import TextEncoderSpec
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.methods.spasemsr.spec import ModelSpec
from spasemsr.spec import Fraction, Positive, Spec

WEIGHTS, CONFIG = "weights.safetensors", "config.json"


class InferenceSpec(Spec):
    """What upscaling needs beside the weights: the chain that annotates an image as in training, and how to sample.

    `sample` is null in a project, where `evaluate.sample` of `params.yaml` says it; a released folder states it.
    """

    profile: Literal["embedded", "probe", "foundation"]
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


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model. Raises UserError when there is none, or it is not JSON."""
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder / CONFIG} does not exist.", "Run: dvc repro train") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} cannot be read: {error}", "Train again: dvc repro train") from None


def read_model_config(folder: Path) -> ModelConfig:
    """The description of a model's folder. Raises UserError when it is absent, damaged or of another version."""
    try:
        return ModelConfig.model_validate(read_config(folder))
    except ValidationError as error:
        wrong = ", ".join(sorted({".".join(map(str, item["loc"])) or "the whole" for item in error.errors()}))
        raise UserError(
            f"{folder / CONFIG} does not describe a model of this version: {wrong}.",
            "Train again (dvc repro train), or use the version of this project that wrote it.",
        ) from None


def weights_digest(folder: Path, remedy: str = "Run: dvc repro train") -> str:
    """Hex sha256 of a folder's weights. Raises UserError with this remedy when they are not there."""
    try:
        return sha256_file(folder / WEIGHTS)
    except OSError as error:
        raise UserError(f"{folder / WEIGHTS} cannot be read: {error.strerror}.", remedy) from None


def made_of(config: ModelConfig, folder: Path) -> list[Any]:
    """What a model's results follow from beside its input, JSON-ready: how it is built, and its weights."""
    return [config.method, config.scale, config.model.plain(), config.identities, weights_digest(folder)]
