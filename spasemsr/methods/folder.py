"""A model's folder: `weights.safetensors` and `config.json`, never pickle. Tensor names are `<module>.<tensor>`.

Training writes it, evaluation and upscaling read it; what is read is compared with the model tensor by tensor.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spasemsr.errors import UserError
from spasemsr.methods import method as face_of
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.protocol import Addition
from spasemsr.methods.stored import CONFIG, WEIGHTS, Bits
from spasemsr.weights.eight_bits import packed, unpacked
from spasemsr.weights.tensors import fill, read_state_dict, save_tensors

if TYPE_CHECKING:
    from spasemsr.methods.protocol import Method, Trainable

_TRAIN = "Train again with these params: dvc repro train"
_WHOLE = "Release these weights in full precision: --bits 32."


def save_model(folder: Path, method: "Trainable", config: dict[str, Any], bits: Bits = 32) -> None:
    """Write `weights.safetensors` and `config.json`; the same weights and config give the same bytes.

    Of 16 bits, float32 tensors are stored as float16, of 8 as `eight_bits.packed` does; loading widens them again.
    Raises UserError where that would overflow.
    """
    tensors = tensors_of(method.trainable())
    if bits == 16:
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    if bits == 8:
        try:
            tensors = packed(tensors)
        except ValueError as error:
            raise UserError(f"Tensor {error}.", _WHOLE) from None
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS, tensors)
    (folder / CONFIG).write_text(json.dumps(config, sort_keys=True, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _halved(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    if not torch.isfinite(half := tensor.half()).all():
        raise UserError(f"Tensor {name} has values beyond float16's range.", _WHOLE)
    return half


def load_model(folder: Path, method: "Trainable") -> None:
    """Read weights in place. Raises UserError naming the first missing, unknown or ill-shaped tensor."""
    found = unpacked(read_state_dict(folder / WEIGHTS, _TRAIN))
    fill(tensors_of(method.trainable()), found, str(folder / WEIGHTS), _TRAIN)


def load_method(folder: Path, config: ModelConfig) -> "Method":
    """The trained method of a folder, whose description this is. Raises UserError as `load_model` does."""
    method = face_of(config.method).build(config)
    load_model(folder, method)
    return method


def load_init(folder: Path, method: "Trainable") -> None:
    """Start from the weights of a folder, in place. Raises UserError as `load_model` does.

    The folder may hold parts that an ablation switches off (`heads.img`, `fusion`): a tensor is passed over when the
    model has nothing under its first two names. Whatever the model has must be there, but for additions of which the
    folder has nothing: they are silenced, so that the model starts as what the folder holds. So do ablations whose
    first phase never saw the part under test. Raises UserError too for weights of a part that the model keeps frozen:
    it would stay as it was built, beside parts that were trained together with another one.
    """
    remedy = "Set train.init to null to start from random weights, or to weights of this architecture."
    found, expected = unpacked(read_state_dict(folder / WEIGHTS, remedy)), tensors_of(method.trainable())
    parts = {_part(name) for name in expected}
    kept = {name: tensor for name, tensor in found.items() if _part(name) in parts}
    frozen = {name.partition(".")[2] for name in method.state_dict()}  # `network.` stands before the names of parts
    if held := sorted((found.keys() - kept.keys()) & frozen):
        part = held[0].partition(".")[0]
        raise UserError(
            f"{folder} was trained together with its {part}, which this model leaves frozen as it was built.",
            "Set model.train_base: true, or train.init to weights whose base was frozen.",
        )
    for name, addition in _additions(method.trainable()):
        place = ".".join(_part(name))
        if not any(other.startswith(f"{place}.") for other in kept):
            addition.silence()
            expected = {other: tensor for other, tensor in expected.items() if not other.startswith(f"{name}.")}
    fill(expected, kept, str(folder / WEIGHTS), remedy)


def _additions(modules: dict[str, nn.Module]) -> Iterator[tuple[str, Addition]]:
    """By name, as tensors are."""
    for prefix, module in modules.items():
        for name, part in module.named_modules():
            if isinstance(part, Addition):
                yield f"{prefix}.{name}".rstrip("."), part  # a module's own name in itself is empty


def _part(name: str) -> tuple[str, ...]:
    return tuple(name.split(".")[:2])


def tensors_of(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name."""
    return {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict(keep_vars=False).items()
    }
