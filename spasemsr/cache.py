"""The sample cache: content-addressed payloads that survive kills, concurrent writers and damage.

    <root>/<first 2 hex of key>/<key> = sha256(rest) (32 bytes) || rest,    rest = label, newline, payload

An entry is written under a unique temporary name and moved into place, so it is either absent or whole; a checksum is
compared on every read, and an entry that fails it is deleted and reported as absent. The cache is an accelerator:
deleting it, or any part of it, at any moment costs time and never correctness. `label` (a column's name) lets `stat`
and `prune` tell what an entry belongs to. `SPASEMSR_CACHE` names the folder, which may lie on a shared file system.
"""

import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spasemsr import atomic
from spasemsr.errors import UserError

_SHARD = re.compile(r"[0-9a-f]{2}")
_KEY = re.compile(r"[0-9a-f]{64}")
_DIGEST_BYTES = 32
_MAX_LABEL = 128
_DAY_SECONDS = 86400.0
_ATTEMPTS = 10
_STALE_SECONDS = 3600.0  # a temporary file this much older than the newest write was left by a killed process


def default_root() -> Path:
    """`SPASEMSR_CACHE`, else `~/.cache/spasemsr`; outside the workspace, which `dvc exp run --temp` copies."""
    return Path(os.environ.get("SPASEMSR_CACHE") or Path.home() / ".cache" / "spasemsr").expanduser().absolute()


@dataclass(frozen=True)
class Usage:
    """How many entries there are and how many bytes they take."""

    entries: int = 0
    bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.entries + other.entries, self.bytes + other.bytes)


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float


class Cache:
    """Payloads by 64-hex key; safe for any number of concurrent processes, cheap to send to one."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_root() if root is None else root

    def has(self, key: str) -> bool:
        """Whether an entry lies there; only reading tells whether it is sound."""
        return self._path(key).is_file()

    def present(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys for which an entry lies there, from listings alone.

        To ask for a name that is not there has a client of network storage remember for a minute that it is not, and
        then what another machine writes under that name meanwhile is not found.
        """
        wanted: dict[str, set[str]] = {}
        for key in keys:
            wanted.setdefault(self._path(key).parent.name, set()).add(key)
        found: set[str] = set()
        for shard, names in wanted.items():
            with contextlib.suppress(FileNotFoundError):
                found |= names.intersection(os.listdir(self.root / shard))
        return found

    def get(self, key: str) -> bytes | None:
        """The payload, or None where there is none; a torn or altered entry is deleted and counts as none."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused("read", error) from error
        rest = memoryview(data)[_DIGEST_BYTES:]
        end = data.find(b"\n", _DIGEST_BYTES, _DIGEST_BYTES + _MAX_LABEL + 1)
        if end < 0 or hashlib.sha256(rest).digest() != data[:_DIGEST_BYTES]:
            path.unlink(missing_ok=True)
            return None
        self._mark_used(path)
        return data[end + 1 :]

    def put(self, key: str, payload: bytes, label: str = "") -> None:
        """Store a payload. Raises UserError where the disk is full or the folder cannot be written."""
        head = label.encode() + b"\n"
        if b"\n" in head[:-1] or len(head) > _MAX_LABEL:
            raise ValueError(f"not a label: {label!r}")
        digest = hashlib.sha256(head)
        digest.update(payload)
        path = self._path(key)
        try:
            for attempt in range(_ATTEMPTS):
                try:  # without a flush: after a power cut an entry may be torn, and then its checksum makes it absent
                    atomic.write(path, digest.digest(), head, payload)
                    return
                except FileNotFoundError:  # the folder is being deleted at this moment
                    if attempt == _ATTEMPTS - 1:
                        raise
        except OSError as error:
            raise self._refused("written", error) from error

    def stat(self) -> dict[str, Usage]:
        """Usage by label, sorted; leftovers of killed processes are counted under "(temporary)"."""
        usage: dict[str, Usage] = {}
        for entry in self._entries():
            label = self._label(entry)
            usage[label] = usage.get(label, Usage()) + Usage(1, entry.size)
        return dict(sorted(usage.items()))

    def prune(self, label: str | None = None, max_bytes: int | None = None) -> Usage:
        """Delete the entries of one label, or the longest unused until `max_bytes` remain; always stale leftovers.

        Returns what was deleted. Running stages go on: they recompute what they miss.
        """
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        newest = entries[-1].used if entries else 0.0
        over = max(0, sum(entry.size for entry in entries) - max_bytes) if max_bytes is not None else 0
        deleted = Usage()
        for entry in entries:
            stale = entry.path.suffix == atomic.PARTIAL and newest - entry.used > _STALE_SECONDS
            if stale or deleted.bytes < over or (label is not None and self._label(entry) == label):
                entry.path.unlink(missing_ok=True)
                deleted += Usage(1, entry.size)
        return deleted

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a sha256: {key!r}")
        return self.root / key[:2] / key

    @staticmethod
    def _mark_used(path: Path) -> None:
        """Renew the time of an entry, at most once a day: `prune(max_bytes=...)` deletes the longest unused first."""
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _DAY_SECONDS:
                os.utime(path)

    def _entries(self) -> Iterator[_Entry]:
        """All entries and temporary files; what vanishes meanwhile is passed over."""
        with contextlib.suppress(FileNotFoundError):
            for shard in sorted(os.scandir(self.root), key=lambda item: item.name):
                if not (_SHARD.fullmatch(shard.name) and shard.is_dir()):
                    continue  # accounts and training states live beside the entries
                for item in os.scandir(shard):
                    with contextlib.suppress(FileNotFoundError):
                        status = item.stat()
                        yield _Entry(Path(item.path), status.st_size, status.st_mtime)

    @staticmethod
    def _label(entry: _Entry) -> str:
        if entry.path.suffix == atomic.PARTIAL:
            return "(temporary)"
        try:
            with entry.path.open("rb") as file:
                head = file.read(_DIGEST_BYTES + _MAX_LABEL)
        except OSError:
            return "(unreadable)"
        return head[_DIGEST_BYTES:].partition(b"\n")[0].decode("utf-8", "replace")

    def _refused(self, what: str, error: OSError) -> UserError:
        reason = error.strerror or type(error).__name__
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free space, as spasemsr cache prune --max-gb does; what is finished is kept. Run it again."
        else:
            remedy = "Give yourself the permission, or set SPASEMSR_CACHE to another folder."
        return UserError(f"The cache folder {self.root} cannot be {what}: {reason}.", remedy)
