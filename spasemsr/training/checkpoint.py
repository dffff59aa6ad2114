"""Training state on disk: safetensors and JSON, never pickle; whole or not there at all.

A training state is one folder per saved step, written beside its place and renamed into it, so that a kill at any
moment leaves the last complete one. The finished model is `spasemsr/modelfile.py`'s, whose names are used here too.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spasemsr.methods.base import Method
from spasemsr.modelfile import load_tensors, require_equal_layout, save_tensors, tensors_of
from spasemsr.training.optimizer import Average, named_parameters

TENSORS, RECORD = "state.safetensors", "state.json"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps per parameter
_STEP = "step-{:08d}"
_UNFINISHED = "unfinished-"


@dataclass(frozen=True)
class Position:
    """Where training stands: steps done, and what the loss log needs to go on."""

    step: int
    log: dict[str, Any]


def save_state(
    folder: Path,
    position: Position,
    method: Method,
    optimizer: torch.optim.Optimizer,
    average: Average,
) -> None:
    """Write the state after `position.step` steps and drop older ones; atomic by rename."""
    tensors = {f"weights/{name}": tensor for name, tensor in tensors_of(method.trainable()).items()}
    tensors |= {f"average/{name}": tensor for name, tensor in average.shadow.items()}
    for name, parameter in named_parameters(method.trainable()).items():
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{moment}/{name}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / _STEP.format(position.step)
    unfinished = folder / f"{_UNFINISHED}{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    save_tensors(unfinished / TENSORS, tensors)
    record = {"step": position.step, "log": position.log}
    # Keys keep their order, which is the order of the log's columns.
    (unfinished / RECORD).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    for path in (unfinished / TENSORS, unfinished / RECORD):
        _flush(path)
    unfinished.rename(final)
    for other in folder.iterdir():
        if other != final and other.name.startswith(("step-", _UNFINISHED)):
            shutil.rmtree(other, ignore_errors=True)


def load_state(folder: Path, method: Method, optimizer: torch.optim.Optimizer, average: Average) -> Position | None:
    """Restore the newest complete state in place, None when there is none; UserError for another model's."""
    saved = sorted(folder.glob("step-*")) if folder.is_dir() else []
    if not saved:
        return None
    found = load_tensors(saved[-1] / TENSORS)
    record = json.loads((saved[-1] / RECORD).read_text(encoding="utf-8"))
    expected = {f"weights/{name}": tensor for name, tensor in tensors_of(method.trainable()).items()}
    expected |= {f"average/{name}": tensor for name, tensor in average.shadow.items()}
    held = {name: found[name] for name in found if not name.startswith(tuple(f"{moment}/" for moment in MOMENTS))}
    require_equal_layout(held, expected, saved[-1] / TENSORS, f"Delete {saved[-1].name} and train from the start.")
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(found[name])
    for name, parameter in named_parameters(method.trainable()).items():
        if f"step/{name}" in found:
            moments = {moment: found[f"{moment}/{name}"] for moment in MOMENTS}
            device = parameter.device
            optimizer.state[parameter] = {key: value.to(device) for key, value in moments.items()}
    return Position(record["step"], record["log"])


def _flush(path: Path) -> None:
    """Have the file on disk before the rename that declares it whole."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
