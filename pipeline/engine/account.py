"""The account of a column: what was counted while it was built, readable by other processes at any moment.

Lies in the cache folder, never in an out: `<cache>/accounts/<hash of the workspace's path>/<column>.json`, replaced at
most once a second. Times in it are for people; nothing is decided by them.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from spasemsr import atomic
from spasemsr.hashing import sha256_bytes

_SAVE_SECONDS = 1.0


@dataclass
class Account:
    """Counts in samples; `errors` by exception class; `digest` and `tars` (name -> sha256) once the out is written.

    `made_with` names devices and library versions that the samples were computed with, as far as accounts tell: their
    bytes are the same on any number of workers, but between two of these they may differ by rounding.
    `rate` is samples per second since the first one was finished, so that loading a model does not count.
    `state` is running, done, failed or interrupted; a running account whose process is gone reads as interrupted.
    """

    stage: str
    column: str
    version: int
    identity: Any
    params: Any
    workspace: str
    executor: str
    workers: int
    total: int
    cached: int
    computed: int = 0
    failed: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    state: str = "running"
    seconds: float = 0.0
    rate: float = 0.0
    backend_seconds: float = 0.0
    digest: str = ""
    tars: dict[str, str] = field(default_factory=dict)
    made_with: list[str] = field(default_factory=list)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    updated: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate, or None before anything was computed."""
        left = self.total - self.cached - self.computed
        return left / self.rate if self.rate > 0 else None


def accounts_folder(cache_root: Path, workspace: Path) -> Path:
    """Where the accounts of a workspace are kept, by a hash of its path: several may share a cache."""
    return cache_root / "accounts" / sha256_bytes(str(workspace.resolve()).encode())[:16]


class AccountFile:
    """Where one account is kept; writing never fails the stage that keeps it."""

    def __init__(self, cache_root: Path, account: Account) -> None:
        name = account.column.replace("/", "+")
        self.path = accounts_folder(cache_root, Path(account.workspace)) / f"{name}.json"
        self.previous = _read(self.path)
        self._account = account
        self._start = self._saved = time.monotonic()
        self._first: tuple[float, int] | None = None
        self.save(force=True)

    def save(self, force: bool = False) -> None:
        """Write the account as it is now, unless that was done within the last second."""
        now = time.monotonic()
        if self._first is None and self._account.computed:
            self._first = now, self._account.computed
        if not force and now - self._saved < _SAVE_SECONDS:
            return
        self._saved, self._account.seconds, self._account.updated = now, round(now - self._start, 3), time.time()
        if self._first is not None and now > self._first[0]:
            self._account.rate = round((self._account.computed - self._first[1]) / (now - self._first[0]), 6)
        with contextlib.suppress(OSError):
            atomic.write_text(self.path, json.dumps(asdict(self._account), sort_keys=True))


def inherited(account: Account, previous: Account | None) -> list[str]:
    """What cached samples were made with: as the account before this one tells, if it is of the same models."""
    same = previous is not None and (previous.identity, previous.version) == (account.identity, account.version)
    return list(previous.made_with) if same and previous is not None and account.cached else []


def backend_name(identity: Any) -> str:
    """An identity as `kind@version`, several joined by +."""
    if isinstance(identity, dict) and "kind" in identity:
        return f"{identity['kind']}@{identity.get('version', '?')}"
    parts = identity.values() if isinstance(identity, dict) else identity if isinstance(identity, list) else []
    return "+".join(filter(None, (backend_name(part) for part in parts)))


def read_accounts(cache_root: Path, workspace: Path) -> Iterator[Account]:
    """The accounts of a workspace's columns; what is damaged is passed over."""
    for path in sorted(accounts_folder(cache_root, workspace).glob("*.json")):
        account = _read(path)
        if account is None:
            continue
        if account.state == "running" and account.host == socket.gethostname() and not psutil.pid_exists(account.pid):
            account.state = "interrupted"
        yield account


def _read(path: Path) -> Account | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Account(**{name.name: values[name.name] for name in fields(Account) if name.name in values})
    except (OSError, ValueError, KeyError, TypeError):
        return None
