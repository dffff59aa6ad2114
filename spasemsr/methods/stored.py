"""The folder of a trained model as it describes itself: `config.json`, and the digest of `weights.safetensors`.

Reading it needs no torch, so that what is wrong with a folder is reported before anything heavy is imported.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.methods import method, names
from spasemsr.methods.carried import located
from spasemsr.methods.model_config import ModelConfig

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
Bits = Literal[32, 16, 8]  # of a number in a file of weights


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model. Raises UserError when there is none, or it is not JSON."""
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder / CONFIG} does not exist.", "Run: dvc repro train") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} cannot be read: {error}", "Train again: dvc repro train") from None


def read_model_config(folder: Path) -> ModelConfig:
    """The description of a model's folder, of its method's own type.

    Raises UserError when it is absent, damaged, of another version, or of a method that is not here.
    """
    raw = read_config(folder)
    name = raw.get("method") if isinstance(raw, dict) else None
    if name not in names():
        raise UserError(
            f"{folder / CONFIG} is of a method {name!r}, which is not here.", f"There are: {', '.join(names())}"
        )
    try:
        return method(name).config.model_validate(located(raw, folder))
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
    version = method(config.method).version
    return [config.method, version, config.scale, config.model.plain(), config.identities, weights_digest(folder)]
