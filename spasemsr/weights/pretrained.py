"""`from_pretrained` with nothing left to chance: local safetensors only, the right class, every tensor in its place."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spasemsr.errors import UserError
from spasemsr.weights.tensors import require_equal, require_whole

_REMEDY = "Correct `source` in params.yaml, or fetch the model again: spasemsr models fetch"


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file of a checkpoint. Raises UserError where it is absent or no JSON object."""
    path = folder / name
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is no checkpoint: it has no {name}.", _REMEDY) from None
    except (ValueError, UnicodeDecodeError):
        raise UserError(f"{path} is no JSON.", _REMEDY) from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is no JSON object.", _REMEDY)
    return config


def load_pretrained(cls: Any, folder: Path, **options: Any) -> Any:
    """A transformers or diffusers model in eval mode, frozen, on the CPU.

    Raises UserError, naming file or first wrong tensor, for another architecture, pickled weights, a truncated file and
    any missing, unknown or ill-shaped tensor; a model is never partly filled.
    """
    config = read_config(folder)
    wanted = getattr(getattr(cls, "config_class", None), "model_type", None)
    if wanted is not None:  # transformers
        found = config.get("model_type")
        if found is None and "architectures" in config:
            found = config["architectures"]
    else:
        wanted, found = cls.__name__, config.get("_class_name")
    if found != wanted:
        raise UserError(f"{folder / 'config.json'} describes a {found}, not a {wanted}.", _REMEDY)
    _require_safetensors(folder)
    with quiet_loading():
        model, info = cls.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with a name
            **options,
        )
    require_equal(str(folder), info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    if info.get("error_msgs"):
        raise UserError(f"{folder}: {info['error_msgs'][0]}", _REMEDY)
    return model.eval().requires_grad_(False)


def load_processor(cls: Any, folder: Path) -> Any:
    """A tokenizer or processor of transformers, from local files. Raises UserError where they are absent or damaged."""
    if (folder / "config.json").exists():
        read_config(folder)  # transformers reads it too, and does not name it
    try:
        with quiet_loading():
            return cls.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{folder}: tokenizer or processor files are absent or damaged: {reason}", _REMEDY) from None


def _require_safetensors(folder: Path) -> None:
    """Whole safetensors files, all shards of an index included."""
    files = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(read_config(folder, index.name).get("weight_map", {}).values())
        absent = sorted(shard for shard in shards if not (folder / shard).is_file())
        if absent:
            raise UserError(f"{folder} lacks {absent[0]}, one of {len(shards)} shards.", _REMEDY)
    if not files:
        pickled = sorted(path.name for pattern in ("*.bin", "*.pth", "*.ckpt") for path in folder.glob(pattern))
        held = f"only pickled weights ({pickled[0]})" if pickled else "no weights"
        raise UserError(f"{folder} holds {held}; safetensors are needed.", _REMEDY)
    for path in files:
        require_whole(path)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the libraries' progress bars and load reports, which we say in our own words; restored afterwards."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    levels = [(module, module.get_verbosity()) for module in (diffusers_logging, transformers_logging)]
    bars = transformers_logging.is_progress_bar_enabled()
    try:
        for module, _ in levels:
            module.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        yield
    finally:
        for module, level in levels:
            module.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
