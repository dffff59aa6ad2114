"""Reading tensor files and filling modules: all tensors of the right name and shape, or none and the first wrong name.

safetensors, or `.pth` through `torch.load(weights_only=True)`: a file that holds anything but tensors is refused.
"""

import json
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spasemsr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

_MAX_HEADER = 100_000_000
# Constants that older versions of the libraries saved and current ones compute.
_NOT_WEIGHTS = re.compile(r"(^|\.)(position_ids|rotary_emb\.inv_freq)$")
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what a restricted load refused
_AGAIN = "Fetch it again (spasemsr models fetch), or correct `source` in params.yaml."


def read_state_dict(path: Path) -> dict[str, Any]:
    """What a tensor file holds, on the CPU: names to tensors (or to a dictionary of them, as some `.pth` have it).

    Raises UserError for a file that is absent, truncated, or holds pickled objects.
    """
    if not path.is_file():
        raise UserError(f"No file {path}.", _AGAIN)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        require_whole(path)
        return load_file(path)
    if path.suffix not in (".pth", ".pt", ".bin", ".ckpt"):
        raise UserError(f"{path} is no tensor file.", "Use .safetensors, or a .pth that holds tensors only.")
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
        raise UserError(f"{path} is truncated or no checkpoint: {_first_line(error)}", _AGAIN) from None
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds a {type(found).__name__}, not named tensors.", _AGAIN)
    return dict(found)


def require_whole(path: Path) -> None:
    """Check a safetensors header against the file's length. Raises UserError naming the first tensor cut off."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise UserError(f"{path} is truncated or no safetensors file: its header is incomplete.", _AGAIN)
        try:
            header = json.loads(file.read(length))
            ends = {name: item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} is no safetensors file: its header is damaged.", _AGAIN) from None
    available = size - 8 - length
    cut = sorted((end, name) for name, end in ends.items() if end > available)
    if cut:
        raise UserError(f"{path} is truncated: the first tensor that is not complete is {cut[0][1]}.", _AGAIN)


def load_strictly(module: "nn.Module", state: Mapping[str, "Tensor"], origin: str) -> None:
    """Fill a module with exactly its own tensors, or raise UserError naming the first wrong one and copy nothing."""
    import torch

    expected = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{origin}: {name} is a {type(value).__name__}, not a tensor.", _AGAIN)
    mismatched = [
        (name, tuple(state[name].shape), tuple(tensor.shape))
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    missing = [name for name in expected if name not in state]
    require_equal(origin, missing, [name for name in state if name not in expected], mismatched)
    module.load_state_dict(dict(state))


def require_equal(
    origin: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Iterable[tuple[str, Any, Any]],
) -> None:
    """Raise UserError unless a checkpoint and its model agreed in every name and shape; says which was wrong first."""
    absent, unknown = sorted(missing), sorted(name for name in unexpected if not _NOT_WEIGHTS.search(name))
    shapes = sorted((name, tuple(found), tuple(wanted)) for name, found, wanted in mismatched)
    said = []
    if absent:
        said.append(f"lacks {len(absent)} tensors, the first being {absent[0]}")
    if unknown:
        said.append(f"has {len(unknown)} tensors that the model does not know, the first being {unknown[0]}")
    if shapes:
        name, found, wanted = shapes[0]
        said.append(f"has {len(shapes)} tensors of another shape, the first being {name}, {found} instead of {wanted}")
    if said:
        remedy = "It is another model, or damaged. Nothing was loaded. " + _AGAIN
        raise UserError(f"{origin} {'; '.join(said)}.", remedy)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
