"""Which files to restore, where results go, what is done already, and how files appear whole or not at all.

A result `photo_x4.png` has a sidecar `photo_x4.png.json` that says what it was made from and with. A result is done
when its sidecar names the same input, model and settings, and its bytes are those the sidecar names; so a run that was
killed goes on where it was, and a picture that somebody else put there is never taken for ours, nor overwritten.
"""

import contextlib
import errno
import glob
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from spasemsr import __version__
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_bytes, sha256_file
from spasemsr.images import writing
from spasemsr.images.flat import FOREIGN_SUFFIXES, SUFFIXES

PROGRAM = "spasemsr"
_PARTIAL = ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Source:
    """One input: where it lies, and its place below the output folder, without suffix."""

    path: Path
    place: Path


def find_sources(inputs: Sequence[str], out: Path) -> list[Source]:
    """Files, folders (searched in depth) and glob patterns -> sources, sorted within each, each file once.

    Raises UserError for an input that does not exist and for one that holds no picture.
    """
    found: dict[Path, Source] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            files = _pictures_in(path, out)
            if not files:
                raise UserError(
                    f"{given} holds no picture.", f"Name a folder with {', '.join(sorted(SUFFIXES))} files."
                )
            sources = [Source(file, file.relative_to(path).with_suffix("")) for file in files]
        elif path.exists():
            sources = [Source(path, Path(path.stem))]
        else:
            matches = sorted(Path(match) for match in glob.glob(given, recursive=True))
            if not matches:
                raise UserError(f"{given} does not exist.", "Name files, folders or patterns that do.")
            sources = [Source(file, Path(file.stem)) for file in matches if file.is_file()]
        for source in sources:
            found.setdefault(source.path.resolve(), source)
    if not found:
        raise UserError("None of the inputs is a file.", "Name picture files, or a folder that holds some.")
    return list(found.values())


def _pictures_in(folder: Path, out: Path) -> list[Path]:
    """Picture files below a folder, foreign formats too (they are refused with a reason); not our own results."""
    inside = out.resolve() != folder.resolve() and out.resolve().is_relative_to(folder.resolve())
    files = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES | FOREIGN_SUFFIXES or not path.is_file() or path.name.startswith("."):
            continue
        if not _is_ours(path) and not (inside and path.resolve().is_relative_to(out.resolve())):
            files.append(path)
    return files


def _is_ours(path: Path) -> bool:
    """Whether a picture is a result of this command, or the map of one."""
    if path.name.endswith(".map.png"):
        stem = glob.escape(path.name.removesuffix(".map.png"))
        return any(_record_in(sidecar) is not None for sidecar in path.parent.glob(f"{stem}.*.json"))
    return _record_in(sidecar_of(path)) is not None


def targets(sources: Sequence[Source], out: Path, scale: int, form: str | None) -> list[Path]:
    """Where each result goes, without its suffix when the input's own format decides (`form` None, `out` a folder).

    `out` with a picture's suffix is the file itself, for a single input. Raises UserError where two would collide.
    """
    if _is_file_name(out):
        if len(sources) > 1:
            raise UserError(f"{out} is one file, but there are {len(sources)} inputs.", "Name a folder with -o.")
        if form is not None and suffix_format(out) != form:
            raise UserError(f"{out} is no {form} file.", "Leave out --format, or give -o its suffix.")
        return [out]
    paths = [out / source.place.with_name(f"{source.place.name}_x{scale}") for source in sources]
    first: dict[tuple[Path, str | None], Source] = {}
    for source, path in zip(sources, paths, strict=True):
        other = first.setdefault((path, form or suffix_format(source.path) or source.path.suffix), source)
        if other is not source:
            raise UserError(
                f"{other.path} and {source.path} would both become {path.name}.", "Restore them into different folders."
            )
    if form is not None:
        return [path.with_name(path.name + writing.SUFFIXES[form]) for path in paths]
    return paths


def suffix_format(path: Path) -> str | None:
    """The format a file's name asks for, None for names of no format that can be written."""
    return writing.FORMATS.get(path.suffix.lower().removeprefix("."))


def _is_file_name(out: Path) -> bool:
    return suffix_format(out) is not None and not out.is_dir()


def sidecar_of(target: Path) -> Path:
    """The JSON beside a result."""
    return target.with_name(target.name + ".json")


def map_of(target: Path) -> Path:
    """The map of deviations beside a result."""
    return target.with_name(f"{target.stem}.map.png")


def is_done(target: Path, fingerprint: str) -> bool:
    """Whether a result was made with exactly this, and is whole."""
    record = _record_in(sidecar_of(target))
    if record is None or record["fingerprint"] != fingerprint:
        return False
    try:
        return all(sha256_file(target.with_name(name)) == digest for name, digest in record["files"].items())
    except OSError:
        return False


def is_free(target: Path) -> bool:
    """Whether a result can be written without replacing anything but the sidecar of a result that is gone."""
    sidecar = sidecar_of(target)
    return not target.exists() and (not sidecar.exists() or _record_in(sidecar) is not None)


def _record_in(sidecar: Path) -> dict[str, Any] | None:
    """The content of a sidecar of ours; None for any other file, or none."""
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
        whole = isinstance(record["fingerprint"], str) and isinstance(record["files"], dict)
        return record if whole and record["program"].startswith(PROGRAM) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def sidecar(fingerprint: str, files: Iterable[tuple[Path, bytes]], record: dict[str, Any]) -> bytes:
    """The sidecar's bytes: everything the result was made with, and the digests of the files it speaks for."""
    digests = {path.name: sha256_bytes(data) for path, data in files}
    value = {"program": f"{PROGRAM} {__version__}", "fingerprint": fingerprint, "files": digests, **record}
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def require_writable(out: Path) -> None:
    """Raise UserError, before any work, where nothing could be written."""
    folder = out.parent if _is_file_name(out) else out
    trial = folder / f".spasemsr.{os.getpid()}{_PARTIAL}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"")
        trial.unlink()
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} is a file, not a folder.", "Name another folder with -o.") from None
    except OSError as error:
        raise _cannot_write(folder, error) from None


def publish(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write files so that each appears whole, in this order, or none at all; what was there is replaced.

    Raises UserError for a full disk and a forbidden folder, after removing what was begun.
    """
    begun: list[tuple[Path, Path]] = []
    try:
        for path, data in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            partial = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
            begun.append((partial, path))
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for partial, path in begun:
            os.replace(partial, path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:  # a Ctrl-C too leaves nothing behind
        for partial, _ in begun:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove what a killed run left of this file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        pid = left.name.removesuffix(_PARTIAL).rpartition(".")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> UserError:
    if error.errno in _FULL:
        return UserError(f"No space left to write {path}.", "Free some, then run the same again: it goes on from here.")
    if error.errno in _FORBIDDEN:
        return UserError(f"{path} may not be written: {error.strerror}.", "Name another place with -o.")
    return UserError(f"{path} cannot be written: {error.strerror or error}.", "Name another place with -o.")
