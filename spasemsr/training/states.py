"""Where the state of a training run lies while it trains, and how states that nobody will resume are found.

`<root>/<family>/<run>` holds the state of one run, `<run>.lock` beside it is locked (flock) by the process that trains
it. A family is all runs of one method and profile; their states can take ten gigabytes each.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from spasemsr.errors import UserError


@contextlib.contextmanager
def state_of(root: Path, family: str, run: str) -> Iterator[Path]:
    """The folder of a run's state, held for as long as the run trains; it may or may not exist.

    States of the same family that no process holds are deleted: they are of other settings or other code, which a
    resumed run must not have. Of the processes of one launch the first does this for all. Raises UserError when the
    folder cannot be written, or another process trains the same run.
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
        for other in folder.glob("*.lock"):
            if other.stem != run:
                _delete_if_abandoned(other)
        yield folder / run
        if not (folder / run).exists():  # the run has ended, and its state was deleted
            (folder / f"{run}.lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others of the family are there
                folder.rmdir()


def _delete_if_abandoned(lock: Path) -> None:
    with contextlib.suppress(OSError), lock.open("a") as file:
        if _lock(file.fileno()):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()


def _lock(descriptor: int) -> bool | None:
    """Whether the lock could be taken; None where storage has no locks, so that it is unknown who holds one."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
