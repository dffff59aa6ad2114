"""One process builds one out at a time, and a stage ends when the `dvc` that started it is killed.

Without the first, two commands in one folder would write the same out; without the second, `kill -9` of `dvc repro`
would leave a stage running that races with the next `dvc repro`.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from spasemsr.errors import UserError

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "fish", "ksh"))


@contextlib.contextmanager
def exclusive(stage: str, folder: Path = Path("data")) -> Iterator[None]:
    """Hold the stage of this name in this folder; a second copy waits here, saying so, until the first has ended.

    The lock is the kernel's (flock), so it ends with its holder however that ends. Also starts the watch on dvc. Of the
    processes of one launch (torchrun, accelerate) the first holds it for all.
    """
    end_with_dvc()
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    path = folder / f".{stage}.lock-held"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"Cannot lock {path}: {error.strerror}.", "Give yourself write permission here.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(64).strip() or "unknown"
            log.warning("%-9s waits: process %s is building the same outs", stage, holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def end_with_dvc() -> None:
    """If dvc started this process, end as soon as that dvc has ended, however it ends."""
    dvc = _dvc_ancestor() if "DVC_STAGE" in os.environ else None
    if dvc is not None:
        threading.Thread(target=_watch, args=(dvc,), name="end-with-dvc", daemon=True).start()


def _dvc_ancestor() -> psutil.Process | None:
    """The nearest ancestor that runs dvc (a launcher may stand between), else the nearest that is no shell."""
    with contextlib.suppress(psutil.Error):
        ancestors = psutil.Process().parents()
        return next(filter(_runs_dvc, ancestors), None) or next((p for p in ancestors if p.name() not in _SHELLS), None)
    return None


def _runs_dvc(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()[:3]
        return "dvc" in {process.name(), *(Path(word).name for word in words[:2])} or words[1:] == ["-m", "dvc"]
    return False


def _watch(dvc: psutil.Process) -> None:
    """Leave at once, as the killed one did: progress lies in the cache, and workers end with this process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        while dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_POLL_SECONDS)
    os._exit(1)
