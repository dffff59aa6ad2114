"""Arrays from a pickle of NumPy's, the form in which projects of JAX publish weights: nested dictionaries of them.

A pickle may name any function for its reader to call. This one knows the three names that NumPy writes for an array
and refuses every other before it is looked up; and it is only given files whose digest the registry states (`store`).
"""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spasemsr.errors import UserError

_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],  # under the name it had before NumPy 2
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
_REMEDY = "Nothing was loaded. It is another file, or damaged: install its package again (make env)."


def read_arrays(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The float32 arrays of a file by the names on the way to each, `outer/inner`.

    Raises UserError for a file that is cut short, asks for anything but arrays, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            arrays = dict(_flat(_Strict(file, encoding="bytes").load()))
    except _Refused as error:
        what = f"{path} holds a pickled {error}, not arrays: loading it could run its code."
        raise UserError(what, _REMEDY) from None
    except Exception as error:  # a damaged pickle can raise anything
        said = f"{type(error).__name__} {error}".strip()[:200]
        raise UserError(f"{path} is truncated or no pickle of arrays: {said}", _REMEDY) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise UserError(f"{path}: {name or 'what it holds'} is {kind}, not a float32 array.", _REMEDY)
    return arrays


def _flat(found: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries with their names."""
    if not isinstance(found, Mapping):
        yield name, found
        return
    for key, value in found.items():
        yield from _flat(value, f"{name}/{key}" if name else str(key))


class _Refused(Exception):
    """The name of what a pickle asked for."""


class _Strict(pickle.Unpickler):
    """Finds the three names and no other."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            raise _Refused(f"{module}.{name}")
        return known
