"""Where the state of a training run lies while it trains, and what becomes of states of interrupted runs.

`<root>/<family>/<run>` holds the state of one run, `<run>.lock` beside it is locked (flock) by the process that trains
it. A family is all runs of one method and profile; their states can take ten gigabytes each. Settings or code that
differ make another run, which cannot go on from this one's state: of a family, the last state that was left behind is
kept for whoever goes back, older ones are deleted when another run begins.
"""

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spasemsr.errors import UserError

log = logging.getLogger(__name__)

RECORD = "state.json"  # in the folder of a saved step, which is a state as long as this lies there


@dataclass(frozen=True)
class Interrupted:
    """The state of a run that no process trains: its folder, its size, when it was last saved (seconds, Unix time)."""

    folder: Path
    bytes: int
    saved: float

    @property
    def name(self) -> str:
        """Family and run, and the size, as a person reads it."""
        return f"{self.folder.parent.name}/{self.folder.name[:12]} ({self.bytes / 1e9:.2f} GB)"


@contextlib.contextmanager
def state_of(root: Path, family: str, run: str) -> Iterator[Path]:
    """The folder of a run's state, held for as long as the run trains; it may or may not exist.

    Of the family's other states that no process holds, the newest is kept and named, older ones are deleted and named.
    Of the processes of one launch the first does this for all. Raises UserError when the folder cannot be written, or
    another process trains the same run.
    """
    folder = root / family
    if os.environ.get("RANK", "0") != "0":
        yield folder / run
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f"{run}.lock").open("a")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror}.", "Set SPASEMSR_CACHE to another folder."
        ) from None
    with file:
        if _lock(file.fileno()) is False:
            raise UserError(
                f"Another process trains this very run, its state is {folder / run}.", "Wait until it has ended."
            )
        for deleted in prune(root, 1, family):
            log.info("states    deleted %s, of an interrupted run with other settings", deleted.name)
        for left in interrupted(root, family):
            log.info(
                "states    %s is of an interrupted run with other settings; spasemsr cache prune --states 0 deletes it",
                left.name,
            )
        yield folder / run
        if not (folder / run).exists():  # the run has ended, and its state was deleted
            (folder / f"{run}.lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others of the family are there
                folder.rmdir()


def interrupted(root: Path, family: str = "*") -> list[Interrupted]:
    """The states that no process holds, family by family, the last one saved first."""
    found = []
    for lock in root.glob(f"{family}/*.lock"):
        folder = lock.with_suffix("")
        with contextlib.suppress(OSError):  # it vanishes meanwhile
            if folder.is_dir() and _is_free(lock):
                files = [path.stat() for path in folder.rglob("*")]
                saved = max(status.st_mtime for status in (folder.stat(), *files))
                found.append(Interrupted(folder, sum(status.st_size for status in files), saved))
    return sorted(found, key=lambda state: (state.folder.parent, -state.saved))


def prune(root: Path, keep: int, family: str = "*") -> list[Interrupted]:
    """Delete the states that no process holds but the last `keep` saved of each family; returns what was deleted."""
    seen: dict[Path, int] = {}
    deleted = []
    for state in interrupted(root, family):
        seen[state.folder.parent] = place = seen.get(state.folder.parent, 0) + 1
        if place > keep and _delete(state.folder):
            deleted.append(state)
    for lock in root.glob(f"{family}/*.lock"):
        if not lock.with_suffix("").exists():  # a run killed before it saved anything
            _delete(lock.with_suffix(""))
    return deleted


def discard(folder: Path) -> None:
    """Delete a state, the records of its steps first: what a kill leaves of it is no state, instead of a broken one."""
    for record in folder.glob(f"*/{RECORD}"):
        record.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _delete(folder: Path) -> bool:
    """Delete a state with its lock, unless a process holds it by now."""
    lock = folder.with_name(f"{folder.name}.lock")
    with contextlib.suppress(OSError), lock.open("r+") as file:
        if _lock(file.fileno()):
            discard(folder)
            lock.unlink()
            return True
    return False


def _is_free(lock: Path) -> bool:
    with lock.open("r+") as file:
        return bool(_lock(file.fileno()))


def _lock(descriptor: int) -> bool | None:
    """Whether the lock could be taken; None where storage has no locks, so that it is unknown who holds one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
