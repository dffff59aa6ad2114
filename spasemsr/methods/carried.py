"""Students that a model needs travel with it: a released folder holds them, and its config names them there.

In a project they lie in `data/students`, which no other machine has.
"""

import shutil
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

STUDENTS = "students"


def carry(config: dict[str, Any], out: Path) -> dict[str, Any]:
    """The config with every student copied to `out/students` and named by its place in `out`. Raises OSError."""

    def carried(source: str) -> str:
        path = Path(source)
        place = _place(path)
        if place is None or not path.exists():
            return source
        if not (out / place).exists() or not path.samefile(out / place):
            (out / place).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, out / place)
        return place.as_posix()

    return _with_sources(config, carried)


def _place(path: Path) -> PurePath | None:
    """Where a student lies in the folder of its project or of a released model; None for other weights."""
    for folder in path.parents:
        if folder.name == STUDENTS and (folder.parent == Path("data") or (folder.parent / "config.json").is_file()):
            return STUDENTS / path.relative_to(folder)
    return None


def located(config: Any, folder: Path) -> Any:
    """The config of a released folder with the places of its students as they are seen from here."""

    def found(source: str) -> str:
        return str(folder / source) if PurePath(source).parts[:1] == (STUDENTS,) else source

    return _with_sources(config, found)


def _with_sources(section: Any, change: Callable[[str], str]) -> Any:
    if isinstance(section, list):
        return [_with_sources(item, change) for item in section]
    if not isinstance(section, dict):
        return section
    changed = {key: _with_sources(value, change) for key, value in section.items()}
    if isinstance(changed.get("source"), str):
        changed["source"] = change(changed["source"])
    return changed
