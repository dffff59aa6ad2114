"""What `upscale` leaves beside a result: a sidecar `photo_x4.png.json` that speaks for it, and perhaps a map.

Everybody who meets such a folder reads it here: `upscale` to see what is done, `score` to leave maps out and to find
the picture that a result was made from.
"""

import json
import re
from pathlib import Path
from typing import Any

PROGRAM = "spasemsr"
MAP = ".map.png"
_ENDING = re.compile(r"_(x[1-4](\.\d+)?|\d+[wh]|\d+x\d+)$")


def sidecar_of(result: Path) -> Path:
    """The JSON beside a result."""
    return result.with_name(result.name + ".json")


def map_of(result: Path) -> Path:
    """The map of deviations beside a result."""
    return result.with_name(result.name + MAP)


def record_in(sidecar: Path) -> dict[str, Any] | None:
    """The content of a sidecar of ours; None for any other file, or none."""
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        whole = isinstance(record["fingerprint"], str) and isinstance(record["files"], dict)
        return record if whole and record["program"].startswith(PROGRAM) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def made_from(path: Path) -> str:
    """The name of the picture, as `shown`, that a result or the map of one was made from; "" for other pictures."""
    record = record_in(sidecar_of(path.with_name(path.name.removesuffix(MAP)))) or {}
    stated = record.get("input")
    if not isinstance(stated, dict) or path.name not in record["files"]:
        return ""
    return str(stated.get("name", ""))


class Neighbours:
    """The results that the sidecars of one folder speak for.

    A picture with any JSON file of its name beside it may be a result whose sidecar was lost or made by another
    version. That is enough to find its key and to leave out its map, not to call it ours: cameras and photo services
    put such files beside originals too.
    """

    def __init__(self, folder: Path) -> None:
        self._records: dict[str, dict[str, Any]] = {}
        self._maps: set[str] = set()
        self._beside: set[str] = set()
        for sidecar in sorted(folder.glob("*.json")):
            name = sidecar.name.removesuffix(".json")
            if (folder / name).is_file():
                self._beside.add(name)
            record = record_in(sidecar)
            if record is not None:
                self._records[name] = record
                self._maps |= {other for other in record["files"] if other != name and other.endswith(MAP)}
        self._supposed = {own + MAP for name in self._beside if _ENDING.search(Path(name).stem) for own in _names(name)}

    def is_ours(self, path: Path) -> bool:
        """Whether a picture is a result, or the map of one."""
        return path.name in self._records or path.name in self._maps

    def is_map(self, path: Path) -> bool:
        """Whether a picture is the map of a result, or must be taken for one."""
        return path.name in self._maps or path.name in self._supposed

    def ending(self, path: Path) -> str:
        """What a result's stem has beyond its input's: `_x4`, `_1920w`; "" for other pictures."""
        found = _ENDING.search(path.stem) if path.name in self._records or path.name in self._beside else None
        return found[0] if found else ""


def _names(result: str) -> tuple[str, str]:
    """What a map's name begins with: the whole name of its result, in older versions its stem."""
    return result, Path(result).stem
