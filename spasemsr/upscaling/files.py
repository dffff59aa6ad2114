"""Which files to restore, where results go, what is done already, and that no run takes anything from another.

A result `photo_x4.png` has a sidecar `photo_x4.png.json` that says what it was made from and with. A result is done
when its sidecar names the same input, model and settings, and its bytes are those the sidecar names; so a run that was
killed goes on where it was, and a picture that somebody else put there is never taken for ours, nor overwritten.
"""

import errno
import glob
import importlib.metadata
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spasemsr import atomic
from spasemsr.errors import RejectedSample, UserError
from spasemsr.hashing import sha256_bytes, sha256_file
from spasemsr.images.formats import FOREIGN_SUFFIXES, SUFFIXES
from spasemsr.images.names import files_below, looks_like_a_picture, shown
from spasemsr.images.opening import header
from spasemsr.images.results import MAP, PROGRAM, Neighbours, made_from, map_of, record_in, sidecar_of
from spasemsr.images.writing import FORMATS, written_as
from spasemsr.images.writing import SUFFIXES as WRITTEN

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_UNFIT_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_NAME_BYTES = 255  # most that common file systems hold
State = Literal["done", "free", "other"]


@dataclass(frozen=True)
class Source:
    """One input: where it lies, its place below the output folder without suffix, its format and size if readable."""

    path: Path
    place: Path
    form: str = ""
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, path: Path, place: Path) -> "Source":
        """With what the file's header states."""
        form, size = header(path) or ("", None)
        return cls(path, place.with_name(_stem(place)), form, size)


def find_sources(inputs: Sequence[str], out: Path) -> list[Source]:
    """Files, folders (searched in depth, linked ones too) and glob patterns -> sources, sorted within each, each once.

    Raises UserError for an input that does not exist and for one that holds no picture.
    """
    found: dict[Path, Source] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            files = _pictures_in(path, out)
            if not files:
                raise UserError(
                    f"{shown(given)} holds no picture.", f"Name a folder with {', '.join(sorted(SUFFIXES))} files."
                )
            pairs = [(file, file.relative_to(path)) for file in files]
        elif path.exists() or path.is_symlink():
            pairs = [(path, Path(path.name))]
        else:
            matches = sorted(Path(match) for match in glob.glob(given, recursive=True))
            if not matches:
                raise UserError(f"{shown(given)} does not exist.", "Name files, folders or patterns that do.")
            pairs = [(file, Path(file.name)) for file in matches if file.is_file()]
        for file, place in pairs:
            if (key := _resolved(file)) not in found:
                found[key] = Source.of(file, place)
    if not found:
        raise UserError("None of the inputs is a file.", "Name picture files, or a folder that holds some.")
    return list(found.values())


def earlier_results(sources: Sequence[Source], out: Path) -> dict[Source, Source]:
    """Those inputs that were made from another, which lies beside them or whose result goes where they lie.

    A pattern such as `*.jpg` names them with their originals. A result that is named without its original is no such
    input: it was meant.
    """
    named: dict[str, list[Source]] = {}
    for source in sources:
        named.setdefault(shown(source.path.name), []).append(source)
    found = {}
    for source in sources:
        for other in named.get(made_from(source.path), ()):
            goes = out.parent if is_file_name(out) else out / other.place.parent
            if other is not source and _resolved(source.path.parent) in map(_resolved, (other.path.parent, goes)):
                found[source] = other
    return found


def _pictures_in(folder: Path, out: Path) -> list[Path]:
    """Picture files below a folder, foreign formats too (they are refused with a reason); not our own results."""
    above = _resolved(out)
    inside = above != _resolved(folder) and above.is_relative_to(_resolved(folder))
    files, ours = [], dict[Path, Neighbours]()
    for path in files_below(folder):
        if not looks_like_a_picture(path) or (inside and _resolved(path).is_relative_to(above)):
            continue
        if path.parent not in ours:
            ours[path.parent] = Neighbours(path.parent)
        if not ours[path.parent].is_ours(path):
            files.append(path)
    return files


def _resolved(path: Path) -> Path:
    """The real place of a file or folder; of a link that leads nowhere, or in a circle, its own."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):
        return path.absolute()


def targets(sources: Sequence[Source], out: Path, ending: str, form: str | None) -> list[Path | None]:
    """Where each result goes; None for a file that cannot be read and so becomes nothing.

    `out` with a picture's suffix is the file itself, for a single input. `ending` (`_x4`) follows the input's name;
    where two inputs would share a result, the one whose own suffix it has keeps the short name and the other's is its
    whole name: `cat_x4.jpg`, `cat.png_x4.jpg`. Raises UserError where even that is one name, where the format of `out`
    cannot be written, and where it is an input.
    """
    if is_file_name(out):
        if len(sources) > 1:
            raise UserError(f"{shown(out)} is one file, but there are {len(sources)} inputs.", "Name a folder with -o.")
        if form is not None and suffix_format(out) != form:
            raise UserError(f"{shown(out)} is no {form} file.", "Leave out --format, or give -o its suffix.")
        if is_input(out, sources):
            raise UserError(f"{shown(out)} is the input itself.", "Name another file with -o: originals are kept.")
        return [out]
    owners: dict[Path, Source] = {}

    def named(source: Source, name: str) -> Path:
        folder = out / source.place.parent
        return folder / result_name(name, ending, WRITTEN[form or written_as(source.form)], folder)

    readable = [source for source in sources if source.form]
    for source in sorted(
        readable, key=lambda source: source.path.suffix.lower() != WRITTEN[form or written_as(source.form)]
    ):
        path = named(source, source.place.name)
        first = owners.setdefault(path, source)
        if first is not source:
            path = named(source, source.place.name + source.path.suffix)
            other = first if first.path.name == source.path.name else owners.setdefault(path, source)
            if other is not source:
                raise UserError(
                    f"{shown(other.path)} and {shown(source.path)} would both become {shown(path.name)}.",
                    "Restore them into different folders.",
                )
    results = {source: path for path, source in owners.items()}
    return [results.get(source) for source in sources]


def result_name(stem: str, ending: str, suffix: str, folder: Path | None = None) -> str:
    """`<stem><ending><suffix>`; a stem that is too long for it and its sidecar is cut and ends in its own hash."""
    limit = _longest_name(folder) - len(max(".json", MAP, key=len)) - len(ending + suffix)
    raw = os.fsencode(stem)
    if len(raw) > limit:
        mark = f"~{sha256_bytes(raw)[:8]}"
        stem = raw[: limit - len(mark)].decode("utf-8", "ignore") + mark
    return stem + ending + suffix


def _longest_name(folder: Path | None) -> int:
    """Bytes that a name may have where a folder is, or will be."""
    while folder is not None and not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return min(os.pathconf(folder, "PC_NAME_MAX"), _NAME_BYTES) if folder else _NAME_BYTES
    except (OSError, ValueError, AttributeError):
        return _NAME_BYTES


def _stem(place: Path) -> str:
    return place.stem or place.name


def suffix_format(path: Path) -> str | None:
    """The format a file's name asks for, None for names of no format that can be written."""
    return FORMATS.get(path.suffix.lower().removeprefix("."))


def is_file_name(out: Path) -> bool:
    """Whether `out` means a file. Raises UserError for the name of a picture that cannot be written."""
    if out.is_dir():
        return False
    if suffix_format(out) is None and out.suffix.lower() in SUFFIXES | FOREIGN_SUFFIXES:
        raise UserError(
            f"{shown(out)}: {out.suffix} files cannot be written.",
            f"End it in {', '.join(WRITTEN.values())}, or name a folder with -o.",
        )
    return suffix_format(out) is not None


def is_input(path: Path, sources: Iterable[Source]) -> bool:
    """Whether writing to a path would replace an input, by whatever name or link it is reached."""
    try:
        there = path.stat()
    except OSError:
        return False
    for source in sources:
        try:
            if os.path.samestat(source.path.stat(), there):
                return True
        except OSError:
            continue
    return False


def state(target: Path, fingerprint: str, with_map: bool) -> State:
    """Whether a result is done, can be written, or is another's: somebody's file, or made otherwise."""
    record = record_in(sidecar_of(target))
    if record is None and sidecar_of(target).exists():
        return "other"
    spoken_for: dict[str, str] = record["files"] if record is not None else {}
    if target.exists():
        ours = record is not None and record["fingerprint"] == fingerprint
        if not ours or not _holds(target, spoken_for.get(target.name)):
            return "other"
        rest = {name: digest for name, digest in spoken_for.items() if name != target.name}
        missing = [name for name, digest in rest.items() if not _holds(target.with_name(name), digest)]
        return "free" if missing else "done"  # killed between result and map: it goes on
    if with_map and map_of(target).exists() and map_of(target).name not in spoken_for:
        return "other"
    return "free"


def _holds(path: Path, digest: str | None) -> bool:
    try:
        return digest is not None and sha256_file(path) == digest
    except OSError:
        return False


def sidecar(fingerprint: str, files: Iterable[tuple[Path, bytes]], record: dict[str, Any]) -> bytes:
    """The sidecar's bytes: everything the result was made with, and the digests of the files it speaks for."""
    digests = {path.name: sha256_bytes(data) for path, data in files}
    value = {
        "program": f"{PROGRAM} {importlib.metadata.version(PROGRAM)}",
        "fingerprint": fingerprint,
        "files": digests,
        **record,
    }
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")  # a name that is no UTF-8 becomes JSON's \udcXX


def require_writable(out: Path) -> None:
    """Raise UserError, before any work, where nothing could be written."""
    folder = out.parent if is_file_name(out) else out
    try:
        atomic.trial(atomic.partial_of(folder / "trial"))
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{shown(folder)} is a file, not a folder.", "Name another folder with -o.") from None
    except OSError as error:
        if error.errno in _UNFIT_NAMES:
            raise UserError(f"{shown(folder)}: {error.strerror}.", "Name another folder with -o.") from None
        raise _cannot_write(folder, error) from None


def publish(
    target: Path, data: bytes, sidecar_data: bytes, map_data: bytes | None, force: bool, resumed: bool = False
) -> bool:
    """Write a result with its sidecar and map, each whole or not at all; False if another run's result is there now.

    Without `force` the picture claims its place, and only who has claimed it touches what lies beside it. Any number of
    runs on any number of machines may do this at once. With `resumed`, the same picture lay there already, from a run
    that was killed before its map. Raises UserError for a full disk and a forbidden folder,
    RejectedSample `name_unwritable`; what was begun is removed.
    """
    beside = [(sidecar_of(target), sidecar_data), *([(map_of(target), map_data)] if map_data is not None else [])]
    partials: list[Path] = []

    def written(path: Path, content: bytes) -> Path:
        partials.append(atomic.partial_of(path))
        atomic.fill(partials[-1], content, flush=True)
        return partials[-1]

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.sweep(target.parent)
        moves = [(written(path, content), path) for path, content in beside]
        picture = written(target, data)
        if not force:
            # a sidecar before its picture: a kill between them leaves nothing that looks like somebody else's
            atomic.claim(written(*beside[0]), beside[0][0])
            if not atomic.claim(picture, target) and not (resumed and target.read_bytes() == data):
                return False
        for partial, path in moves:
            os.replace(partial, path)
        if force:
            os.replace(picture, target)
    except OSError as error:
        raise _cannot_write(target, error) from None
    finally:  # a Ctrl-C too leaves nothing behind
        for partial in partials:
            atomic.remove(partial)
    return True


def _cannot_write(path: Path, error: OSError) -> Exception:
    if error.errno in _FULL:
        remedy = "Free some, then run the same again: it goes on from here."
        return UserError(f"No space left to write {shown(path)}.", remedy)
    if error.errno in _FORBIDDEN:
        return UserError(f"{shown(path)} may not be written: {error.strerror}.", "Name another place with -o.")
    if error.errno in _UNFIT_NAMES:
        detail = f"its result cannot have the name {shown(path.name)}: {error.strerror}"
        return RejectedSample("name_unwritable", detail)
    return UserError(f"{shown(path)} cannot be written: {error.strerror or error}.", "Name another place with -o.")
