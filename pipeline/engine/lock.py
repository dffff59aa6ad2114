"""One process builds one out at a time, and a stage ends when the `dvc` that started it is killed.

Without the first, two commands in one folder would write the same out; without the second, `kill -9` of `dvc repro`
would leave a stage running that races with the next `dvc repro`.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
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

    The lock is the kernel's (flock), so it ends with its holder however that ends; where storage has none, a folder
    with a file that its holder touches again and again (`claimed`). Also starts the watch on dvc. Of the processes of
    one launch (torchrun, accelerate) the first holds it for all.
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
                with claimed(stage, path.with_suffix(".lock-claims")):
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
def claimed(stage: str, folder: Path) -> Iterator[None]:
    """The lock for storage without flock: a folder that holds its holder's file, touched as long as it is held.

    A file that nobody has touched for a minute, or whose process on this machine is gone, is removed by whoever waits.
    Each holder's has a name of its own, and a folder moves into place only where no other with a file in it is: of two
    that find the same file abandoned, the slower can remove nothing of the faster one. Raises UserError where the
    folder cannot be made.
    """
    own = folder / uuid.uuid4().hex
    said = False
    try:
        while not _placed(own):
            other = _claim(folder)
            if other is None:  # it has just gone
                with contextlib.suppress(OSError):
                    folder.rmdir()  # some storage moves no folder onto an empty one
                time.sleep(_POLL_SECONDS)
                continue
            if not said:
                log.warning("%-9s waits: %s holds the same outs", stage, _read(other) or "another process")
            said = True
            if _abandoned(other):
                _remove(other)
    except OSError as error:
        raise UserError(f"Cannot lock {folder}: {error.strerror}.", "Give yourself write permission here.") from None
    released = threading.Event()
    threading.Thread(target=_touch, args=(own, released), name="lock-claim", daemon=True).start()
    try:
        yield
    finally:
        released.set()
        _remove(own)


def _placed(claim: Path) -> bool:
    """Make a claim in a folder that is moved to where it is to be; False where there is one already."""
    made = claim.parent.with_name(f"{claim.parent.name}-{claim.name}")
    made.mkdir()
    try:
        (made / claim.name).write_text(f"{socket.gethostname()} {os.getpid()}")
        made.rename(claim.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return True


def _claim(folder: Path) -> Path | None:
    """The claim in a folder, if there is one."""
    try:
        return next((path for path in folder.iterdir() if not path.name.startswith(".nfs")), None)
    except FileNotFoundError:
        return None


def _remove(claim: Path) -> None:
    """Remove this claim, and the folder if no other is in it."""
    claim.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        claim.parent.rmdir()


def _abandoned(claim: Path) -> bool:
    """Watch a claim until it changes or a minute has passed in which it did not."""
    host, _, pid = _read(claim).partition(" ")
    if host == socket.gethostname() and pid.isdecimal() and not psutil.pid_exists(int(pid)):
        return True
    end, touched = time.monotonic() + _STALE_SECONDS, _touched(claim)
    while time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
        if (now := _touched(claim)) != touched or not now:  # it may have gone before it was first looked at
            return False
    return True


def _touch(claim: Path, released: threading.Event) -> None:
    while not released.wait(_STALE_SECONDS / 6):
        with contextlib.suppress(OSError):
            os.utime(claim)


def _read(claim: Path) -> str:
    try:
        return claim.read_text()
    except OSError:
        return ""


def _touched(claim: Path) -> int:
    try:
        return claim.stat().st_mtime_ns
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
