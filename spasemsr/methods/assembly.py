"""A method from the description that lies beside its weights: what training, evaluation and upscaling build alike."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from spasemsr import randomness
from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.protocols import Autoencoder, TextEncoder
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.methods.folder import CONFIG, WEIGHTS, read_config
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.protocol import Method
from spasemsr.methods.spasemsr.spec import ModelSpec


def build(config: ModelConfig) -> Method:
    """The method of a description, with freshly drawn weights. Pin threads first where bytes matter."""
    return build_method(
        config.method,
        config.model,
        scale=config.scale,
        seed=config.seed,
        lambda_=config.lambda_,
        controlnet_weight=config.controlnet_weight,
        autoencoder=build_autoencoder(config.autoencoder),
        text_encoder=build_text_encoder(config.text_encoder),
        feature_channels=config.feature_channels,
    )


def build_method(
    name: str,
    spec: ModelSpec,
    *,
    scale: int,
    seed: int,
    lambda_: float,
    controlnet_weight: float,
    autoencoder: Autoencoder,
    text_encoder: TextEncoder,
    feature_channels: int,
) -> Method:
    """The method of this name with freshly drawn weights: a function of `seed`, not of what was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.derive_seed(seed, "weights", name))
        match name:
            case "spasemsr":
                from spasemsr.methods.spasemsr.method import SpaSemSR

                return SpaSemSR(
                    spec,
                    scale=scale,
                    lambda_=lambda_,
                    controlnet_weight=controlnet_weight,
                    autoencoder=autoencoder,
                    text_encoder=text_encoder,
                    feature_channels=feature_channels,
                )
    raise ValueError(f"no method {name!r}")


def made_of(config: ModelConfig, folder: Path) -> list[Any]:
    """What a model's results follow from beside its input, JSON-ready: how it is built, and its weights."""
    return [config.method, config.scale, config.model.plain(), config.identities, sha256_file(folder / WEIGHTS)]


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
