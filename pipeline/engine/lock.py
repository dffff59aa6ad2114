"""One process builds one out at a time, and a stage ends when the `dvc` that started it is killed.

Without the first, two commands in one folder would write the same out; without the second, `kill -9` of `dvc repro`
would leave a stage running that races with the next `dvc repro`.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from spasemsr.errors import UserError

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_STALE_SECONDS = 60.0
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "fish", "ksh"))


@contextlib.contextmanager
def exclusive(stage: str, folder: Path = Path("data")) -> Iterator[None]:
    """Hold the stage of this name in this folder; a second copy waits here, saying so, until the first has ended.

    The lock is the kernel's (flock), so it ends with its holder however that ends; where storage has none, a file that
    its holder touches again and again (`claimed`). Also starts the watch on dvc. Of the processes of one launch
    (torchrun, accelerate) the first holds it for all.
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
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                with claimed(stage, path.with_suffix(".lock-claim")):
                    yield
                return
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


@contextlib.contextmanager
def claimed(stage: str, path: Path) -> Iterator[None]:
    """The lock for storage without flock: a file made only if it is not there, touched as long as it is held.

    One that nobody has touched for a minute, or whose process on this machine is gone, is taken over. Raises UserError
    where the file cannot be made.
    """
    holder = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
    said = False
    try:
        while True:
            try:
                with path.open("x") as file:
                    file.write(holder)
                break
            except FileExistsError:
                if not said:
                    log.warning("%-9s waits: %s holds the same outs", stage, _read(path) or "another process")
                said = True
                if not _abandoned(path):
                    continue
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot lock {path}: {error.strerror}.", "Give yourself write permission here.") from None
    released = threading.Event()
    threading.Thread(target=_touch, args=(path, released), name="lock-claim", daemon=True).start()
    try:
        yield
    finally:
        released.set()
        if _read(path) == holder:
            path.unlink(missing_ok=True)


def _abandoned(path: Path) -> bool:
    """Watch a claim until it changes or a minute has passed in which it did not."""
    host, _, rest = _read(path).partition(" ")
    pid = rest.partition(" ")[0]
    if host == socket.gethostname() and pid.isdecimal() and not psutil.pid_exists(int(pid)):
        return True
    end, touched = time.monotonic() + _STALE_SECONDS, _touched(path)
    while time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
        if _touched(path) != touched:
            return False
    return True


def _touch(path: Path, released: threading.Event) -> None:
    while not released.wait(_STALE_SECONDS / 6):
        with contextlib.suppress(OSError):
            os.utime(path)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


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
