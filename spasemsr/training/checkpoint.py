"""Training state on disk: safetensors and JSON, never pickle; whole or not there at all.

A training state is one folder per saved step, written beside its place and renamed into it, so that a kill at any
moment leaves the last complete one. The finished model is written by `spasemsr/methods/folder.py`; tensors have the
same names here.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spasemsr import atomic
from spasemsr.methods.folder import tensors_of
from spasemsr.methods.protocol import Trainable
from spasemsr.training.optimizer import Average, named_parameters
from spasemsr.training.states import RECORD
from spasemsr.weights.tensors import fill, read_state_dict, save_tensors

TENSORS = "state.safetensors"
WEIGHTS, AVERAGE = "weights", "average"  # first parts of tensor names; any other is a moment of the optimizer
COUNTERS = "counters"  # in the record: the plain numbers an optimizer keeps, by the same names
_STEP = "step-{:08d}"


@dataclass(frozen=True)
class Position:
    """Where training stands: steps done, `LossLog.state()`, steps left out, and the rows of `validation.csv`."""

    step: int
    log: dict[str, Any] | None
    skipped: int = 0
    validation: str = ""


def save_state(
    folder: Path,
    position: Position,
    method: Trainable,
    optimizer: torch.optim.Optimizer,
    average: Average,
) -> None:
    """Write the state after `position.step` steps and drop older ones; atomic by rename."""
    tensors: dict[str, Any] = _of_model(method, average)
    counters: dict[str, Any] = {}
    for name, parameter in named_parameters(method.trainable()).items():
        for moment, value in optimizer.state.get(parameter, {}).items():
            kept = tensors if isinstance(value, torch.Tensor) else counters
            kept[f"{moment}/{name}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / _STEP.format(position.step)
    record: dict[str, Any] = {
        "step": position.step,
        "log": position.log,
        "skipped": position.skipped,
        COUNTERS: counters,
        "validation": position.validation,
    }
    with atomic.replacing(final) as unfinished:
        unfinished.mkdir()
        save_tensors(unfinished / TENSORS, tensors)
        # Keys keep their order, which is the order of the log's columns.
        (unfinished / RECORD).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        for path in (unfinished / TENSORS, unfinished / RECORD):
            _flush(path)
    for other in folder.iterdir():
        if other != final and (other.name.startswith("step-") or other.suffix == atomic.PARTIAL):
            atomic.remove(other)


def load_state(folder: Path, method: Trainable, optimizer: torch.optim.Optimizer, average: Average) -> Position | None:
    """Restore the newest complete state in place and say where it stands; None when there is no state.

    Raises UserError for a state of another model, naming the first tensor that differs.
    """
    saved = sorted(record.parent for record in folder.glob(f"step-*/{RECORD}"))
    if not saved:
        return None
    remedy = f"Delete {saved[-1].name} and train from the start."
    found = read_state_dict(saved[-1] / TENSORS, remedy)
    record = json.loads((saved[-1] / RECORD).read_text(encoding="utf-8"))
    held = {name: found[name] for name in found if name.partition("/")[0] in (WEIGHTS, AVERAGE)}
    fill(_of_model(method, average), held, str(saved[-1] / TENSORS), remedy)
    parameters = named_parameters(method.trainable())
    kept = {name: value for name, value in found.items() if name not in held} | record[COUNTERS]
    for name, value in kept.items():
        moment, _, parameter_name = name.partition("/")
        parameter = parameters[parameter_name]
        optimizer.state[parameter][moment] = _beside(parameter, value)
    return Position(record["step"], record["log"], record["skipped"], record["validation"])


def _of_model(method: Trainable, average: Average) -> dict[str, Tensor]:
    """The tensors of weights and average, by the names they are saved under."""
    tensors = {f"{WEIGHTS}/{name}": tensor for name, tensor in tensors_of(method.trainable()).items()}
    return tensors | {f"{AVERAGE}/{name}": tensor for name, tensor in average.shadow.items()}


def _beside(parameter: torch.nn.Parameter, value: Any) -> Any:
    """A value of the optimizer where its parameter lies and, if it has its shape, in the same memory format."""
    if not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _flush(path: Path) -> None:
    """Have the file on disk before the rename that declares it whole."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
