"""Files and folders that appear whole or not at all, also where several machines share the storage.

What is written has a short name of its own, `.<12 hex>.partial`, beside its place, and takes the place in one move. A
process that is killed leaves such a file behind; `sweep` removes it by its age alone, as the storage counts time: a
process id says nothing about another machine.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
_STALE_SECONDS = 3600.0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)


@contextlib.contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """A name to write a file or folder under, which takes `place` when the block ends; removed if the block raises.

    A folder can only take the place of an empty one, or of nothing (see `exchange`).
    """
    partial = partial_of(place)
    try:
        yield partial
        os.replace(partial, place)
    finally:
        remove(partial)


def write(place: Path, *parts: bytes, flush: bool = False) -> None:
    """Write a file in one move, making its folder; with `flush` the bytes are on the disk before it appears."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as partial:
        fill(partial, *parts, flush=flush)


def write_text(place: Path, text: str) -> None:
    """Write UTF-8 text in one move, making its folder."""
    write(place, text.encode())


def write_through(place: Path, *parts: bytes) -> None:
    """Write a file that a person named: in one move, into what a link leads to; a pipe or device takes it as it comes.

    Raises OSError that names the place, which a full disk does not.
    """
    real = _led_to(place)
    try:
        if real.exists() and not real.is_file():
            with real.open("wb") as file:
                file.writelines(parts)
        else:
            write(real, *parts)
    except OSError as error:
        error.filename, error.filename2 = str(place), None
        raise


def _led_to(place: Path) -> Path:
    """What a link leads to; the link itself where that has no name: `/dev/stdout` of a process in a pipeline."""
    real = Path(os.path.realpath(place))
    return place if place.exists() and not real.exists() else real


def partial_of(place: Path) -> Path:
    """A new name beside a place; short, so that a place with a long name can be written too."""
    return place.with_name(f".{uuid.uuid4().hex[:12]}{PARTIAL}")


def fill(partial: Path, *parts: bytes, flush: bool = False) -> None:
    """Write a new file; with `flush`, through to the disk."""
    with partial.open("xb") as file:
        for part in parts:
            file.write(part)
        if flush:
            file.flush()
            os.fsync(file.fileno())


def trial(place: Path) -> None:
    """Raise OSError where a file cannot be written; its folder is made, the place itself is left as it was.

    It is tried, since permissions do not tell: of a name that is too long, of a link to nowhere, and of file systems
    that refuse even root.
    """
    real = _led_to(place)
    real.parent.mkdir(parents=True, exist_ok=True)
    try:
        fill(real)
    except FileExistsError:
        if real.is_file() or real.is_dir():  # a pipe would be waited for
            real.open("ab").close()
    else:
        real.unlink()


def claim(partial: Path, place: Path) -> bool:
    """Move a whole file to a place that nobody has taken; False if somebody has, however close the race."""
    try:
        os.link(partial, place)  # fails where a file is, on network storage too
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:  # a file system without links: an empty file holds the place until the whole one moves in
            place.open("xb").close()
        except FileExistsError:
            return False
        os.replace(partial, place)
        return True
    remove(partial)
    return True


def exchange(folder: Path, place: Path) -> None:
    """Put a whole folder in the place of another, or of a file or link; what was there is removed.

    For a moment it lies beside `folder`, as `<its name>-former`: whoever removes leftovers of `folder` finds it too.
    """
    former = folder.with_name(f"{folder.stem}-former{folder.suffix}")
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        os.rename(place, former)
    os.rename(folder, place)
    remove(former)


def remove(path: Path) -> None:
    """Remove a file or folder if it is there and can be."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove partial files in a folder that are an hour older than a file written there now."""
    left = [path for path in folder.glob(f".*{PARTIAL}") if len(path.name) == len(PARTIAL) + 13]
    if not left:
        return
    probe = partial_of(folder / "probe")
    try:
        fill(probe)
        now = probe.stat().st_mtime  # the clock of the storage, not of this machine
        for path in left:
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
    finally:
        remove(probe)
