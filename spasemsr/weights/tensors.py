"""Tensor files, written and read, and models filled from them: every tensor of the right name and shape, or none.

safetensors, `.pth` through `torch.load(weights_only=True)`, or an RRDBNet of ncnn's (`.param` with `.bin`): a file that
holds anything but tensors is refused.
"""

import json
import os
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spasemsr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

_MAX_HEADER = 100_000_000
# Constants that older versions of the libraries saved and current ones compute.
_NOT_WEIGHTS = re.compile(r"(^|\.)(position_ids|rotary_emb\.inv_freq)$")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what a restricted load refused
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_AGAIN = "Fetch it again (spasemsr models fetch), or correct `source` in params.yaml."


def read_state_dict(path: Path, remedy: str = _AGAIN) -> dict[str, Any]:
    """What a tensor file holds, on the CPU: names to tensors (or to a dictionary of them, as some `.pth` have it).

    Raises UserError for a file that is absent, truncated, or holds pickled objects.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist.", remedy)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        require_whole(path, remedy)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is no safetensors file: {_first_line(error)}", remedy) from None
    if path.suffix == ".param":
        from spasemsr.weights.ncnn import read_rrdb

        return read_rrdb(path)
    if path.suffix not in (".pth", ".pt", ".bin", ".ckpt"):
        raise UserError(f"{path} is no tensor file.", "Use .safetensors, a .pth of tensors, or ncnn's .param.")
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = _GLOBAL.search(str(error))
        raise UserError(
            f"{path} holds a pickled {name[1] if name else 'object'}, not tensors: loading it could run its code.",
            "Use a checkpoint saved as a state dict, or as .safetensors.",
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} is truncated or no checkpoint: {_first_line(error)}", remedy) from None
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds a {type(found).__name__}, not named tensors.", remedy)
    return dict(found)


def require_whole(path: Path, remedy: str = _AGAIN) -> None:
    """Check a safetensors header against the file's length. Raises UserError naming the first tensor cut off."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise UserError(f"{path} is truncated or no safetensors file: its header is incomplete.", remedy)
        try:
            header = json.loads(file.read(length))
            ends = {name: item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} is no safetensors file: its header is damaged.", remedy) from None
    available = size - 8 - length
    cut = sorted((end, name) for name, end in ends.items() if end > available)
    if cut:
        raise UserError(f"{path} is truncated: the first tensor that is not complete is {cut[0][1]}.", remedy)


def save_tensors(path: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Safetensors with sorted names and no metadata, so that the bytes are a function of names and values.

    Raises OSError where the file cannot be written.
    """
    from safetensors.torch import save_file

    with disk_errors(path):
        save_file({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}, path)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What safetensors says of the system inside, with an error of its own, becomes OSError of this file or folder."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:  # the system's own error is in its text alone
        if (number := _OS_ERROR.search(str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_strictly(module: "nn.Module", state: Mapping[str, Any], origin: str) -> None:
    """Fill a module with exactly its own tensors, of any type of number. Raises UserError as `fill` does."""
    fill(module.state_dict(), state, origin, _AGAIN, same_types=False)


def fill(
    expected: Mapping[str, "Tensor"], found: Mapping[str, Any], origin: str, remedy: str, same_types: bool = True
) -> None:
    """Copy tensors of equal names and shapes into a model's, in place; float16 may be widened to float32.

    Raises UserError, with nothing copied, that says of what there is too little, too much, or another shape or type,
    and which comes first.
    """
    import torch

    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{origin}: {name} is a {type(value).__name__}, not a tensor.", remedy)
    pairs = [(name, found[name], tensor) for name, tensor in expected.items() if name in found]
    mismatched = [(name, tuple(theirs.shape), tuple(ours.shape)) for name, theirs, ours in pairs]
    mismatched = [(name, theirs, ours) for name, theirs, ours in mismatched if theirs != ours]
    if same_types:
        allowed = {(torch.float16, torch.float32)}  # exact, and half the size on disk
        mismatched += [
            (name, theirs.dtype, ours.dtype)
            for name, theirs, ours in pairs
            if theirs.dtype != ours.dtype and (theirs.dtype, ours.dtype) not in allowed
        ]
    missing = [name for name in expected if name not in found]
    require_equal(origin, missing, [name for name in found if name not in expected], mismatched, remedy)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(found[name])


def require_equal(
    origin: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Any, Any]],
    remedy: str = _AGAIN,
) -> None:
    """Raise UserError unless a checkpoint and its model agree in names, shapes and types; says what is wrong first."""
    absent, unknown = sorted(missing), sorted(name for name in unexpected if not _NOT_WEIGHTS.search(name))
    others = sorted(mismatched, key=lambda other: other[0])
    said = []
    if absent:
        said.append(f"lacks {len(absent)} tensors, the first being {absent[0]}")
    if unknown:
        said.append(f"has {len(unknown)} tensors that the model does not know, the first being {unknown[0]}")
    if others:
        name, found, wanted = others[0]
        kind = "shape" if hasattr(found, "__iter__") else "type"
        what = f"the first being {name}, {_plain(found)} instead of {_plain(wanted)}"
        said.append(f"has {len(others)} tensors of another {kind}, {what}")
    if said:
        remedy = "It is another model, or damaged. Nothing was loaded. " + remedy
        raise UserError(f"{origin} {'; '.join(said)}.", remedy)


def _plain(shape_or_type: Any) -> Any:
    """A shape as numbers, a type as itself."""
    return tuple(shape_or_type) if hasattr(shape_or_type, "__iter__") else shape_or_type


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
