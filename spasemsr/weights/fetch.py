"""Brings a model to this machine from the first of its sources that works; says why the others did not.

Hub repositories are fetched into the Hub's own cache (resumable, shared with other tools; HF_ENDPOINT names a mirror of
the whole Hub), web files into `<models>/<name>/` with a `.part` file that a later run continues. Nothing is used before
its digest agreed with the registry or was recorded in `models.lock.json`.
"""

import errno
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.progress import Progress
from spasemsr.weights import store
from spasemsr.weights.entry import Entry, HubSource, PackageSource, Source, UrlSource, WeightFile
from spasemsr.weights.packages import folder_in
from spasemsr.weights.store import Checkpoint, gigabytes

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60
_RESERVE_BYTES = 1 << 30


class SourceFailed(Exception):
    """A source that did not give what was asked; the message says why."""


class DiskFull(UserError):
    """The disk cannot hold the model."""


def fetch(model: Entry, revision: str | None = None, offline: bool = False, folder: Path | None = None) -> Checkpoint:
    """Make a model available and record it; returns it verified.

    `folder` is a local folder to take the files from first, `offline` forbids the network. Raises UserError with the
    reason of every source when none works, and at once when the disk is full.
    """
    failures = []
    if folder is not None:
        try:
            _copy(folder, store.models_folder() / model.name, model)
        except SourceFailed as failure:
            failures.append(f"folder {folder}: {failure}")
    for place, _ in store.places(model, revision):
        try:
            return _accept(model, revision, "this machine" if folder is None else f"folder {folder}", place)
        except UserError as error:
            failures.append(error.what)
            log.warning("%s: %s; looking elsewhere", model.name, error.what)
    for source in model.sources:
        try:
            if offline:
                raise SourceFailed("not here, and the network is not to be used")
            _require_space(model)
            log.info("%s: fetching %s from %s", model.name, gigabytes(model.size), source)
            return _accept(model, revision, str(source), _from_source(model, source, revision))
        except SourceFailed as failure:
            failures.append(f"{source}: {failure}")
        except DiskFull:  # no source can help against it
            raise
        except UserError as error:  # a wrong digest: the next source may have the right file
            failures.append(f"{source}: {error.what}")
        if source is not model.sources[-1]:
            log.warning("%s: %s; trying the next source", model.name, failures[-1])
    raise UserError(
        f"{model.name} could not be fetched. " + " · ".join(failures),
        f"Put its files into {store.models_folder() / model.name}, or name a folder: spasemsr models fetch "
        f"{model.name} --from FOLDER",
    )


def _accept(model: Entry, revision: str | None, source: str, place: Path) -> Checkpoint:
    first = store.record(model, revision, source, place)
    if first:
        shown = ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
        log.warning("%s: no published digest of %s; trusted now and recorded in %s", model.name, shown, store.LOCK)
    return store.verify(model, revision)


def _from_source(model: Entry, source: Source, revision: str | None) -> Path:
    match source:
        case HubSource():
            return _from_hub(model, source, revision)
        case UrlSource():
            if revision is not None:
                raise SourceFailed("has no commits, and one was asked for")
            target = store.models_folder() / model.name
            for file in model.files:
                (target / file.name).parent.mkdir(parents=True, exist_ok=True)
                _download(f"{source.base}/{file.name}", target / file.name, file)
            return target
        case PackageSource():
            try:
                return folder_in(source, model)
            except UserError as error:
                raise SourceFailed(f"{error.what} {error.remedy}") from None


def _from_hub(model: Entry, source: HubSource, revision: str | None) -> Path:
    """The snapshot folder, after fetching every file at one commit; interrupted files are continued."""
    from huggingface_hub import errors, hf_hub_download

    commit = source.at(revision)
    if commit is None:
        raise SourceFailed("no commit is known for it; name one with --revision (40 hexadecimal digits)")
    folder = Path()
    for file in model.files:
        name = f"{source.prefix}/{file.name}" if source.prefix else file.name
        try:
            path = hf_hub_download(source.repo, name, revision=commit, endpoint=os.environ.get("HF_ENDPOINT"))
        except errors.GatedRepoError:
            raise SourceFailed("gated: accept its licence on its page, then log in (hf auth login)") from None
        except errors.RepositoryNotFoundError:
            raise SourceFailed("this repository does not exist (any more), or is private") from None
        except errors.RevisionNotFoundError:
            raise SourceFailed(f"it has no commit {commit}") from None
        except errors.LocalEntryNotFoundError:
            raise SourceFailed("the Hub cannot be reached, or offline mode is on (HF_HUB_OFFLINE)") from None
        except errors.EntryNotFoundError:
            raise SourceFailed(f"it has no file {name}") from None
        except (errors.HfHubHTTPError, OSError, ValueError) as error:
            raise _explained(error, name) from None
        folder = Path(path[: -len(file.name)])
    return folder


def _download(url: str, target: Path, file: WeightFile) -> None:
    """One file by HTTP, continued where an earlier attempt stopped, checked before it gets its name."""
    if target.is_file() and (not file.sha256 or sha256_file(target) == file.sha256):
        return
    part = target.with_name(f"{target.name}.part")
    done = part.stat().st_size if part.is_file() else 0
    size = file.size
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            if done and response.status != 206:  # the server begins again
                done = 0
            size = size or done + int(response.headers.get("Content-Length") or 0)
            progress = Progress("fetch", size, done, unit="bytes")
            with part.open("ab" if done else "wb") as out:
                while chunk := response.read(_CHUNK):
                    out.write(chunk)
                    progress.advance(len(chunk), target.name)
            progress.close()
    except urllib.error.HTTPError as error:
        if error.code != 416 or not done:  # 416: nothing is left to send
            raise SourceFailed(f"{target.name}: HTTP status {error.code}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _explained(error, target.name) from None
    found = part.stat().st_size
    if found < size:
        raise SourceFailed(f"{target.name}: the connection ended at {found} of {size} bytes; run the command again")
    if (size and found > size) or (file.sha256 and sha256_file(part) != file.sha256):
        part.unlink()
        raise SourceFailed(f"{target.name}: what arrived does not have the published digest; it was deleted")
    part.replace(target)


def _copy(folder: Path, target: Path, model: Entry) -> None:
    """Link the files of a local folder, or copy them where the file system cannot link."""
    lacking = [file.name for file in model.files if not (folder / file.name).is_file()]
    if lacking:
        raise SourceFailed(f"it lacks {lacking[0]}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""))
    for file in model.files:
        place = target / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        source = (folder / file.name).resolve()
        try:
            os.link(source, place)
        except OSError:
            try:
                shutil.copy2(source, place)
            except OSError as error:
                raise _explained(error, file.name) from None


def _require_space(model: Entry) -> None:
    """Refuse before a download what the disk cannot hold."""
    folder = store.models_folder()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < model.size + _RESERVE_BYTES:
        raise _disk_full(f"{model.name} needs {gigabytes(model.size)}; {gigabytes(free)} are free at {folder}")


def _explained(error: BaseException, name: str) -> Exception:
    """A full disk ends the command, anything else sends it to the next source."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(f"The disk is full: {name} could not be written")
    reason = getattr(error, "reason", None) or error
    return SourceFailed(f"{name}: {(str(reason).strip().splitlines() or [type(error).__name__])[0][:160]}")


def _disk_full(what: str) -> DiskFull:
    remedy = "Free some space, or name another disk: SPASEMSR_MODELS for web files, HF_HOME for the Hub cache."
    return DiskFull(f"{what}.", remedy)
