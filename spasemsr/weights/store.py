"""Finds a model's files on this machine and proves that they are the ones meant; never touches the network.

A `source` in `params.yaml` is a name of the registry, or the path of a folder or file. A registry model is looked for
in `<models>/<name>/` (SPASEMSR_MODELS, default `<cache>/models`), then in installed packages and in the Hub cache at
the pinned commits. Its files must have the digests of the registry or, where that knows none, those of
`models.lock.json`, which the first fetch writes. A path is taken as it is. Either way the digest of all files used is
part of the identity of what is computed.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spasemsr import atomic
from spasemsr.cache import default_root
from spasemsr.errors import UserError
from spasemsr.hashing import digest_of, sha256_file
from spasemsr.weights.entry import Entry, HubSource, PackageSource, WeightFile
from spasemsr.weights.packages import folder_in
from spasemsr.weights.registry import ENTRIES, entry

LOCK = Path("models.lock.json")
_REMEMBER_ABOVE = 16 << 20  # smaller files are hashed every time


@dataclass(frozen=True)
class Checkpoint:
    """Verified files: a folder, or one file; the commit if there is one; a digest over names and contents."""

    path: Path
    revision: str
    sha256: str


def models_folder() -> Path:
    """Where files that do not come from the Hub lie: `SPASEMSR_MODELS`, else `models` in the cache folder."""
    chosen = os.environ.get("SPASEMSR_MODELS")
    return Path(chosen).expanduser().absolute() if chosen else default_root() / "models"


def locate(source: str, revision: str | None = None, parts: Sequence[str] = ()) -> Checkpoint:
    """The verified checkpoint of a `source`; `parts` are the sub-folders that will be read (default: everything).

    Raises UserError for a model that is not here, is not recorded, or is not what was recorded.
    """
    if source in ENTRIES:
        return verify(entry(source), revision, parts)
    path = Path(source).expanduser()
    if not path.exists():
        remedy = f"Give a path, or one of: {', '.join(ENTRIES)}."
        raise UserError(f"No model named {source!r} and no file or folder of that name.", remedy)
    if path.is_file():
        return Checkpoint(path, revision or "", _sha256_of_model(path))
    names = [found.relative_to(path).as_posix() for found in sorted(path.rglob("*")) if found.is_file()]
    names = [name for name in names if _wanted(name, parts) and not name.startswith(".")]
    if not names:
        raise UserError(f"{path} holds nothing{' in ' + ', '.join(parts) if parts else ''}.", "Correct `source`.")
    return Checkpoint(path, revision or "", digest_of((name, _sha256(path / name)) for name in names))


def verify(model: Entry, revision: str | None = None, parts: Sequence[str] = (), again: bool = False) -> Checkpoint:
    """A registry model at the first place where its files have their digests; `again` hashes large files anew.

    Raises UserError: not here, or why the first place is not to be trusted.
    """
    refused = None
    for place, commit in places(model, revision):
        try:
            sha256 = _verify_at(place, model, revision, parts, again)
        except UserError as error:
            refused = refused or error
        else:
            return Checkpoint(model.here(place), commit, sha256)
    raise refused or _absent(model)


def _absent(model: Entry) -> UserError:
    """Why a model is nowhere; of one that comes in a package, what is the matter with that package."""
    for source in model.sources:
        if isinstance(source, PackageSource):
            try:
                folder_in(source, model)
            except UserError as error:
                return error
    return UserError(
        f"{model.name} ({gigabytes(model.size)}, {model.licence}) is not on this machine.",
        f"Run: spasemsr models fetch {model.name}   or put its files into {models_folder() / model.name}",
    )


def _verify_at(place: Path, model: Entry, revision: str | None, parts: Sequence[str], again: bool) -> str:
    """The digest over the files in a place. Raises UserError for a file that is not the recorded one."""
    recorded = read_lock().get(lock_name(model, revision), {}).get("files", {})
    rows = []
    for file in model.files:
        if not _wanted(file.name, parts):
            continue
        expected = _published(file, model, revision) or recorded.get(file.name, {}).get("sha256", "")
        if not expected:
            raise UserError(
                f"{model.name}: no digest of {file.name} is known, so it is not loaded.",
                f"Run: spasemsr models fetch {model.name}   (records what is here in {LOCK}; commit that file)",
            )
        found = _sha256(place / file.name, again)
        if found != expected:
            raise UserError(
                f"{model.name}: {place / file.name} has sha256 {found[:16]}, not {expected[:16]}.",
                f"Delete that file and run: spasemsr models fetch {model.name}"
                + ("; or install the package again" if isinstance(model.sources[0], PackageSource) else ""),
            )
        rows.append((file.name, found))
    return digest_of(sorted(rows))


def places(model: Entry, revision: str | None = None) -> Iterator[tuple[Path, str]]:
    """Folders on this machine that hold all files of a model, and their commits ("" for a folder of the user's)."""
    folder = models_folder() / model.name
    if all((folder / file.name).is_file() for file in model.files):
        yield folder, revision or ""
    for source in model.sources:
        if isinstance(source, HubSource) and (commit := source.at(revision)):
            cached = _in_hub_cache(source, commit, model)
            if cached is not None:
                yield cached, commit
        elif isinstance(source, PackageSource):
            packaged = None
            with suppress(UserError):  # `verify` says why, if nothing else is found
                packaged = folder_in(source, model)
            if packaged is not None:
                yield packaged, ""


def _in_hub_cache(source: HubSource, commit: str, model: Entry) -> Path | None:
    """The snapshot folder at this commit, if it has every file."""
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for file in model.files:
        name = f"{source.prefix}/{file.name}" if source.prefix else file.name
        path = try_to_load_from_cache(source.repo, name, revision=commit)
        if not isinstance(path, str):
            return None
        folder = Path(path[: -len(file.name)])
    return folder


def lock_name(model: Entry, revision: str | None) -> str:
    """The key in `models.lock.json`: the name, with the commit where the user chose another than the registry's."""
    return model.name if _is_registrys(model, revision) else f"{model.name}@{revision}"


def read_lock() -> dict[str, Any]:
    """`models.lock.json`, or nothing where there is none."""
    try:
        lock = json.loads(LOCK.read_text(encoding="utf-8"))
        if isinstance(lock, dict):
            return lock
    except FileNotFoundError:
        return {}
    except ValueError:
        pass
    raise UserError(f"{LOCK} is damaged.", "Restore it from git, or delete it to trust what is here now.")


def record(model: Entry, revision: str | None, source: str, place: Path) -> list[str]:
    """Write what lies in `place` into `models.lock.json`; names of files that were trusted on first use."""
    lock, name = read_lock(), lock_name(model, revision)
    known = lock.get(name, {}).get("files", {})
    files, first = {}, []
    for file in model.files:
        sha256 = _sha256(place / file.name)
        expected = _published(file, model, revision) or known.get(file.name, {}).get("sha256")
        if expected and sha256 != expected:
            raise UserError(
                f"{file.name} from {source} has sha256 {sha256[:16]}, not {expected[:16]}.",
                f"Delete {place / file.name}; it is damaged, or not the file that was meant.",
            )
        if not expected:
            first.append(file.name)
        files[file.name] = {"bytes": (place / file.name).stat().st_size, "sha256": sha256}
    lock[name] = {"source": source, "files": files}
    _write_json(LOCK, lock)
    return first


def gigabytes(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _is_registrys(model: Entry, revision: str | None) -> bool:
    """Whether this is the content that the registry describes, and not a commit of the user's choice."""
    return revision is None or any(isinstance(s, HubSource) and s.revision == revision for s in model.sources)


def _published(file: WeightFile, model: Entry, revision: str | None) -> str:
    return file.sha256 if _is_registrys(model, revision) else ""


def _sha256_of_model(path: Path) -> str:
    """The digest of a file, or of both files of an ncnn model, which is named by its `.param`."""
    if path.suffix != ".param":
        return _sha256(path)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise UserError(f"{weights} is not beside {path.name}: an ncnn model is both.", "Put both in one folder.")
    return digest_of((file.name, _sha256(file)) for file in (path, weights))


def _wanted(name: str, parts: Sequence[str]) -> bool:
    return not parts or any(name.startswith(f"{part}/") for part in parts)


def _sha256(path: Path, again: bool = False) -> str:
    """The digest of a file; of a large one it is remembered together with its size, inode and time of change."""
    stat = path.stat()
    if stat.st_size < _REMEMBER_ABOVE:
        return sha256_file(path)
    memory = models_folder() / "hashed.json"
    seal = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    remembered: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        remembered = json.loads(memory.read_text(encoding="utf-8"))
    name = str(path.resolve())
    if not again and remembered.get(name, {}).get("seal") == seal:
        return remembered[name]["sha256"]
    sha256 = sha256_file(path)
    remembered[name] = {"seal": seal, "sha256": sha256}
    with suppress(OSError):  # a read-only place costs time, not correctness
        memory.parent.mkdir(parents=True, exist_ok=True)
        _write_json(memory, remembered)
    return sha256


def _write_json(path: Path, value: Any) -> None:
    atomic.write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
