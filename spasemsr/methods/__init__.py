"""Super-resolution methods, a folder each. `method(name)` is the tree's only import by name.

To add a method is to add a folder: `README.md` here says what it holds.
"""

from importlib import import_module
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.methods.face import Face


def names() -> tuple[str, ...]:
    """The methods there are: folders beside this file that have a `face.py`, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/face.py")))


def method(name: str) -> Face:
    """The face of a method, cheap to import. Raises UserError for a name without a folder."""
    if name not in names():
        raise UserError(f"There is no method {name!r}.", f"Choose from: {', '.join(names())}")
    return import_module(f"spasemsr.methods.{name}.face").FACE
