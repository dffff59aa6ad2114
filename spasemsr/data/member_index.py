"""Where the members of a large column lie, remembered in the sample cache: headers are read once and not by every rank.

A column of 85,000 samples holds up to a million members, and as many small reads are minutes on shared storage. What is
remembered belongs to tars of exactly these names, sizes and times; a tar that was touched is scanned again.
"""

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from spasemsr.cache import Cache
from spasemsr.errors import UserError
from spasemsr.hashing import fingerprint

LEAST = 5000  # keys; the headers of fewer are read in no time
LABEL = "member index"
Listed = Iterable[tuple[str, int, int]]  # name, offset, size


class MemberIndex:
    """The members of a folder's tars; `info` is its `column.json`, `scan` reads a tar's headers."""

    def __init__(self, folder: Path, info: Any, scan: Callable[[Path], Listed]) -> None:
        self._folder, self._scan, self._new = folder, scan, False
        self._name = ""
        self._known: dict[str, list[Any]] = {}
        if info["keys"] >= LEAST:
            tars = [(path.name, path.stat()) for path in sorted(folder.glob("*.tar"))]
            self._name = fingerprint([LABEL, info, [(name, at.st_size, at.st_mtime_ns) for name, at in tars]])
            self._known = json.loads(Cache().get(self._name) or "{}")

    def members(self, tar: str) -> Listed:
        """Name, offset and size of every member of a tar. Raises ValueError for one that `scan` refuses."""
        if not self._name:
            return self._scan(self._folder / tar)
        if tar not in self._known:
            self._known[tar], self._new = list(self._scan(self._folder / tar)), True
        return self._known[tar]

    def save(self) -> None:
        """Remember what had to be scanned; a cache that cannot be written costs the next reader time."""
        if self._new:
            with contextlib.suppress(UserError):
                Cache().put(self._name, json.dumps(self._known).encode(), LABEL)
