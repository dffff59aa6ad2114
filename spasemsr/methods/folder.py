"""A model's folder: `weights.safetensors` and `config.json`, never pickle. Tensor names are `<module>.<tensor>`.

Training writes it, evaluation and upscaling read it; what is read is compared with the model tensor by tensor.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spasemsr.errors import UserError
from spasemsr.methods.model_config import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from spasemsr.methods.protocol import Trainable


def save_model(folder: Path, method: "Trainable", config: dict[str, Any], half: bool = False) -> None:
    """Write `weights.safetensors` and `config.json`; the same weights and config give the same bytes.

    `half` stores float32 tensors as float16, which loading widens again. Raises UserError where that would overflow.
    """
    tensors = tensors_of(method.trainable())
    if half:
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS, tensors)
    (folder / CONFIG).write_text(json.dumps(config, sort_keys=True, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _halved(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    if not torch.isfinite(half := tensor.half()).all():
        raise UserError(f"Tensor {name} has values beyond float16's range.", "Release these weights in full precision.")
    return half


def load_model(folder: Path, method: "Trainable") -> None:
    """Read weights in place. Raises UserError naming the first missing, unknown or ill-shaped tensor."""
    found, expected = load_tensors(folder / WEIGHTS), tensors_of(method.trainable())
    require_equal_layout(found, expected, folder / WEIGHTS, "Train again with these params: dvc repro train")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(found[name])


def load_init(folder: Path, method: "Trainable") -> None:
    """Start from the weights of a folder, in place. Raises UserError as `load_model` does.

    The folder may hold parts that an ablation switches off (`heads.img`, `fusion`): a tensor is passed over when the
    model has nothing under its first two names. Whatever the model has must be there.
    """
    found, expected = load_tensors(folder / WEIGHTS), tensors_of(method.trainable())
    parts = {_part(name) for name in expected}
    kept = {name: tensor for name, tensor in found.items() if _part(name) in parts}
    remedy = "Set train.init to null to start from random weights, or to weights of this architecture."
    require_equal_layout(kept, expected, folder / WEIGHTS, remedy)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(kept[name])


def _part(name: str) -> tuple[str, ...]:
    return tuple(name.split(".")[:2])


def tensors_of(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict(keep_vars=False).items()
    }


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Safetensors with sorted names and no metadata, so that the bytes are a function of names and values."""
    save_file({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU; a missing or damaged file is a UserError."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", "Run: dvc repro train") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}", "Delete it and train again.") from None


def require_equal_layout(found: dict[str, Tensor], expected: dict[str, Tensor], path: Path, remedy: str) -> None:
    """The same names, shapes and dtypes, or a UserError naming the first difference."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise UserError(f"{path} lacks tensor {name}.", remedy)
        if name not in expected:
            raise UserError(f"{path} holds tensor {name}, which this model does not have.", remedy)
        ours, theirs = expected[name], found[name]
        widened = theirs.dtype == torch.float16 and ours.dtype == torch.float32  # exact, and half the size on disk
        if ours.shape != theirs.shape or (ours.dtype != theirs.dtype and not widened):
            raise UserError(
                f"{path}: tensor {name} is {theirs.dtype} {list(theirs.shape)}, "
                f"the model's is {ours.dtype} {list(ours.shape)}.",
                remedy,
            )
