"""Cache entries -> the folder of one column, in key order, and the form in which an entry holds its members.

The folder is built beside its place and renamed, so an out is never half written.
"""

import errno
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.engine.plan import Task, tasks_by_tar
from spasemsr import atomic
from spasemsr.cache import Cache
from spasemsr.data.columns import Column
from spasemsr.data.shards import TarInfo, write_info, write_tar
from spasemsr.errors import UserError
from spasemsr.hashing import canonical_json, digest_of, sha256_bytes


def pack(column: Column, variant: int | None, values: Mapping[str, Any]) -> bytes:
    """A worker's result -> an entry's payload: a line [[base name, size, sha256], ...], then the members' bytes.

    Raises ValueError where the values are not what the column's schema states.
    """
    members = column.members_of(variant)
    if set(values) != {member.base for member in members}:
        wanted = ", ".join(member.base for member in members)
        raise ValueError(f"the worker returned {', '.join(sorted(values)) or 'nothing'}, expected {wanted}")
    encoded = [(member.base, member.encode(values[member.base])) for member in members]
    index = [[base, len(data), sha256_bytes(data)] for base, data in encoded]
    return canonical_json(index).encode() + b"\n" + b"".join(data for _, data in encoded)


def unpack(payload: bytes) -> Iterator[tuple[str, bytes, str]]:
    """An entry's payload -> (base name, bytes, sha256) of each member."""
    line, _, _ = payload.partition(b"\n")
    offset = len(line) + 1
    for base, size, sha256 in json.loads(line):
        yield base, payload[offset : offset + size], sha256
        offset += size


class ColumnWriter:
    """Writes one out; `write` may be called again after lost entries have been recomputed."""

    def __init__(self, column: Column, out: Path, cache: Cache) -> None:
        self._column, self._out, self._cache = column, out, cache
        self._folder = out.with_name(f".{out.name}-{uuid.uuid4().hex[:12]}.tmp")
        self._tars: dict[str, TarInfo] = {}
        self._rows: dict[str, list[tuple[str, str, str]]] = {}

    def write(self, tasks: Sequence[Task]) -> set[str]:
        """Write the tars that are not written yet; returns the names of entries that are missing or damaged."""
        lost: set[str] = set()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for tar, group in tasks_by_tar(tasks).items():
                if tar not in self._tars:
                    lost |= self._write_tar(tar, group)
        except OSError as error:
            raise self._refused(error) from error
        return lost

    def _write_tar(self, tar: str, tasks: list[Task]) -> set[str]:
        lost: set[str] = set()
        rows: list[tuple[str, str, str]] = []

        def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
            for key, units in groupby(tasks, lambda task: task.unit.patch.key):
                members = {}
                for task in units:
                    payload = self._cache.get(task.name)
                    if payload is None:
                        lost.add(task.name)
                        continue
                    for base, data, sha256 in unpack(payload):
                        name = self._column.member(base).name(task.unit.variant)
                        members[name] = data
                        rows.append((key, name, sha256))
                if not lost:  # otherwise go on reading, to find all that is lost
                    yield key, members

        path = self._folder / tar
        info = write_tar(path, samples())
        if lost:
            path.unlink()
        else:
            self._tars[tar], self._rows[tar] = info, rows
        return lost

    def publish(self, identity: Any, params: Any) -> tuple[str, dict[str, str]]:
        """Write `column.json` and put the folder in its place; returns the digest and the tars' sha256."""
        digest = digest_of(sorted(row for rows in self._rows.values() for row in rows))
        try:
            write_info(self._folder, self._column, identity, params, digest, self._tars)
            atomic.exchange(self._folder, self._out)
        except OSError as error:
            raise self._refused(error) from error
        return digest, {name: tar.sha256 for name, tar in sorted(self._tars.items())}

    def discard(self) -> None:
        """Remove what this run, and runs that were killed, left beside the out."""
        for folder in self._out.parent.glob(f".{self._out.name}-*.tmp"):
            shutil.rmtree(folder, ignore_errors=True)

    def _refused(self, error: OSError) -> UserError:
        reason = error.strerror or type(error).__name__
        remedy = "Give yourself write permission there."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free space and run the stage again; finished samples are kept in the cache."
        return UserError(f"{self._out} cannot be written: {reason}.", remedy)


class WritingAhead:
    """Writes each tar in a thread as soon as its samples are in the cache, while others are being computed.

    What it finds lost it leaves to `ColumnWriter.write`. Leaving the context raises what writing raised.
    """

    def __init__(self, writer: ColumnWriter, tasks: Sequence[Task], missing: Set[str]) -> None:
        self._writer, self._tars = writer, tasks_by_tar(tasks)
        self._waits = {tar: {task.name for task in group} & missing for tar, group in self._tars.items()}
        self._tars_of: dict[str, list[str]] = {}
        for tar, names in self._waits.items():
            for name in names:
                self._tars_of.setdefault(name, []).append(tar)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writing-ahead")
        self._writing: list[Future[set[str]]] = []

    def __enter__(self) -> "WritingAhead":
        for tar, names in self._waits.items():
            if not names:
                self._write(tar)
        return self

    def finished(self, batch: Iterable[Task]) -> None:
        """Take note that these are in the cache, and write every tar that waited for nothing else."""
        for task in batch:
            for tar in self._tars_of.pop(task.name, ()):
                self._waits[tar].remove(task.name)
                if not self._waits[tar]:
                    self._write(tar)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(cancel_futures=error is not None)
        if error is None:
            for writing in self._writing:
                writing.result()

    def _write(self, tar: str) -> None:
        self._writing.append(self._thread.submit(self._writer.write, self._tars[tar]))
