"""Columns that lie elsewhere: HTTP, a path, or any storage fsspec has a package for. Nothing from there is believed.

`column.json` is parsed by its schema, and a tar must have the size and sha256 that it states. `streaming.py` reads tars
in passing; `fetch_columns` copies them, for whatever needs random access.
"""

import os
import urllib.parse
import urllib.request
from collections.abc import Sequence
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO

from spasemsr import atomic
from spasemsr.data.columns import Column
from spasemsr.data.shards import INFO, parse_info
from spasemsr.errors import UserError
from spasemsr.hashing import fingerprint
from spasemsr.progress import Progress

_MAX_INFO_BYTES = 1 << 26
_PIECE_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0


def fetch_columns(root: str, columns: Sequence[Column], into: Path) -> Path:
    """Copy the columns below `root` to a folder of `into`, which is returned; a tar that is there is not fetched again.

    The folder is named by the columns' digests, so a column that has changed gets another one. Several processes may
    fetch at once: those of one launch begin at different tars, so that one finds what the others have fetched. Raises
    UserError naming the address at fault.
    """
    root = root.rstrip("/")
    infos = {column: read_info(root, column) for column in columns}
    digests = sorted((column.name, str(info["digest"])) for column, (_, info) in infos.items())
    folder = into / fingerprint(digests)[:32]
    tars = [(column, name, stated) for column, (_, info) in infos.items() for name, stated in info["tars"].items()]
    rank, world = _place_in_launch()
    first = rank * len(tars) // world
    progress = Progress("fetch", len(tars), unit="tars")
    for column, name, stated in [*tars[first:], *tars[:first]]:
        place = folder / column.name / name
        if not (place.is_file() and place.stat().st_size == stated["bytes"]):
            _fetch_tar(f"{root}/{column.name}/{name}", place, stated["bytes"], stated["sha256"], column)
        progress.advance()
    for column, (data, _) in infos.items():
        atomic.write(folder / column.name / INFO, data)  # last: a column without it is not there yet
    progress.close()
    return folder


def _place_in_launch() -> tuple[int, int]:
    """The number of this process among those of a launcher, and how many these are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _fetch_tar(url: str, place: Path, size: int, digest: str, column: Column) -> None:
    """Copy one tar in one move, piece by piece."""
    place.parent.mkdir(parents=True, exist_ok=True)
    hashed, got = sha256(), 0
    with atomic.replacing(place) as partial:
        try:
            with open_url(url) as stream, partial.open("xb") as file:
                while piece := stream.read(_PIECE_BYTES):
                    got += len(piece)
                    if got > size:
                        break
                    hashed.update(piece)
                    file.write(piece)
        except (OSError, HTTPException) as error:
            raise unreachable(url, error) from None
        if got != size:
            raise refused(url, f"the tar is {'longer' if got > size else 'shorter'} than {INFO} states", column)
        if hashed.hexdigest() != digest:
            raise refused(url, f"its sha256 is not the one in {INFO}", column)


def read_info(root: str, column: Column) -> tuple[bytes, dict[str, Any]]:
    """A column's `column.json` as it is and parsed. Raises UserError for what is absent or not this version's."""
    url = f"{root}/{column.name}/{INFO}"
    try:
        with open_url(url) as stream:
            data = stream.read(_MAX_INFO_BYTES)
        return data, parse_info(column, data)
    except ValueError as error:
        raise refused(url, str(error), column) from None
    except (OSError, HTTPException) as error:
        raise unreachable(url, error) from None


def open_url(url: str) -> BinaryIO:
    """A stream of bytes; webdataset's own `gopen` would pass addresses to a shell."""
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme in ("http", "https"):
        return urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)
    if scheme in ("", "file"):
        return open(urllib.parse.urlsplit(url).path, "rb")
    import fsspec

    try:
        if scheme not in fsspec.available_protocols():
            raise ValueError(f"no storage is called {scheme!r}")
        return fsspec.open(url, "rb").open()
    except (ImportError, ValueError) as error:
        raise UserError(f"{url} cannot be opened: {error}.", "Install the fsspec package of this storage.") from None


def refused(url: str, what: str, column: Column) -> UserError:
    """Something that was read but is not what it should be."""
    return UserError(f"{url} is refused: {what}.", f"{column.remedy}, and publish the column again")


def unreachable(url: str, error: BaseException) -> UserError:
    """Something that could not be read."""
    return UserError(f"{url} cannot be read: {error}.", "Check the address and the network, then run again.")
