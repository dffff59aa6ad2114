"""Column folders on disk: a deterministic tar writer and a strict reader with random access.

Tars are USTAR, members sorted by key then name, mtime 0, uid and gid 0, mode 0644, so equal samples are equal files.
The reader scans headers only and reads members by offset; it never extracts. Regular files whose names match key and
schema are accepted, everything else (links, folders, absolute or `..` names, duplicates, oversized members, other
formats) is refused by name. `column.json` states what the folder holds and what made it.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from spasemsr.data.columns import Column
from spasemsr.data.member_index import MemberIndex
from spasemsr.data.patches import KEY
from spasemsr.errors import UserError
from spasemsr.hashing import digest_of, sha256_bytes, sha256_file

INFO = "column.json"
_BLOCK = 512
_OPEN_FILES = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member's bytes lie."""

    tar: str
    offset: int
    size: int


@dataclass(frozen=True)
class TarInfo:
    """What `column.json` states of one tar."""

    sha256: str
    bytes: int
    keys: int


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> TarInfo:
    """Write samples (key, {member name: bytes}), given in key order, as one tar."""
    keys, size, last, digest = 0, 0, "", hashlib.sha256()
    with path.open("xb") as file:

        def write(data: bytes) -> None:
            nonlocal size
            digest.update(data)
            size += file.write(data)

        for key, members in samples:
            if not KEY.fullmatch(key) or key <= last:
                raise ValueError(f"key {key!r} after {last!r}")
            for name in sorted(members):
                header = tarfile.TarInfo(f"{key}.{name}")
                header.size = len(members[name])
                write(header.tobuf(tarfile.USTAR_FORMAT))
                write(members[name])
                write(bytes(-header.size % _BLOCK))
            keys, last = keys + 1, key
        write(bytes(2 * _BLOCK))
        write(bytes(-size % tarfile.RECORDSIZE))
    return TarInfo(digest.hexdigest(), size, keys)


def write_info(
    folder: Path, column: Column, identity: Any, params: Any, digest: str, tars: Mapping[str, TarInfo]
) -> None:
    """Write `column.json`; nothing in it depends on the time, the machine or the place."""
    info = {
        "column": column.name,
        "version": column.version,
        "identity": identity,
        "params": params,
        "keys": sum(tar.keys for tar in tars.values()),
        "digest": digest,
        "tars": {name: asdict(tar) for name, tar in sorted(tars.items())},
    }
    (folder / INFO).write_text(json.dumps(info, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class ColumnReader:
    """Random access to the members of one column below the shards folder; thread-safe.

    Opening scans every header, once for a large column (`member_index.py`), and compares names, sizes and the file list
    with the schema and `column.json`; `verify=True` compares every tar's sha256 too. Raises UserError naming the file
    and the stage that rebuilds it.
    """

    def __init__(self, shards_root: Path, column: Column, verify: bool = False) -> None:
        self.column = column
        self.folder = shards_root / column.name
        self.info = self._read_info()
        self._places: dict[str, dict[str, Place]] = {}
        self._variants: dict[str, int] = {}
        self._keys_of_tar: dict[str, list[str]] = {}
        tars = self.info["tars"]
        if missing := sorted(set(tars) - {path.name for path in self.folder.glob("*.tar")}):
            raise self._damaged(missing[0], "is missing")
        if strange := sorted(path.name for path in self.folder.iterdir() if path.name not in {*tars, INFO}):
            raise self._damaged(strange[0], f"does not belong there: {INFO} does not name it")
        index = MemberIndex(self.folder, self.info, scan)
        for name in sorted(tars):
            self._open_tar(name, tars[name], index, verify)
        index.save()
        if len(self._places) != self.info["keys"]:
            raise self._damaged(INFO, f"states {self.info['keys']} keys, the tars hold {len(self._places)}")
        self._file = lru_cache(maxsize=_OPEN_FILES)(_open)

    def keys(self, split: str | None = None) -> list[str]:
        """Sorted keys, of all splits or of one."""
        if split is None:
            return sorted(self._places)
        return sorted(key for tar, keys in self._keys_of_tar.items() if _split_of(tar) == split for key in keys)

    def tars(self, split: str | None = None) -> dict[str, list[str]]:
        """Keys by tar, of all splits or of one."""
        return {tar: keys for tar, keys in self._keys_of_tar.items() if split in (None, _split_of(tar))}

    def members(self, key: str) -> Mapping[str, Place]:
        """Member names of a key and where they lie; empty for a key that is not there."""
        return self._places.get(key, {})

    def variants(self, key: str) -> int:
        """How many variants of a key there are; 0 where the column has none or lacks the key."""
        return self._variants.get(key, 0)

    def read_bytes(self, key: str, name: str) -> bytes:
        """The bytes of one member. Raises UserError for a key or member that is not there."""
        place = self.members(key).get(name)
        if place is None:
            raise UserError(f"Column {self.column.name!r} lacks {key}.{name}.", self.column.remedy)
        file = self._file(self.folder / place.tar)  # held until the read is done: see _open
        data = os.pread(file.fileno(), place.size, place.offset)
        if len(data) != place.size:
            raise self._damaged(place.tar, f"ends within {key}.{name}")
        return data

    def read(self, key: str, name: str) -> Any:
        """The value of one member, checked against the schema."""
        data = self.read_bytes(key, name)
        try:
            return self.column.member(base_of(name)).decode(data)
        except ValueError as error:
            raise self._damaged(self.members(key)[name].tar, f"{key}: {error}") from None

    def hashes(self) -> dict[tuple[str, str], str]:
        """sha256 of every member by (key, member name), after comparing them with the digest of `column.json`."""
        hashes = {
            (key, name): sha256_bytes(self.read_bytes(key, name))
            for key in sorted(self._places)
            for name in sorted(self._places[key])
        }
        if digest_of((key, name, sha256) for (key, name), sha256 in hashes.items()) != self.info["digest"]:
            for name, stated in sorted(self.info["tars"].items()):
                if sha256_file(self.folder / name) != stated["sha256"]:
                    raise self._damaged(name, f"was altered: its sha256 is not the one in {INFO}")
            raise self._damaged(INFO, "was altered: its digest is not that of the tars")
        return hashes

    def _read_info(self) -> dict[str, Any]:
        path = self.folder / INFO
        try:
            return parse_info(self.column, path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"{path} does not exist.", self.column.remedy) from None
        except ValueError as error:
            raise self._damaged(INFO, str(error)) from None

    def _open_tar(self, tar: str, stated: Mapping[str, Any], index: MemberIndex, verify: bool) -> None:
        path = self.folder / tar
        if (size := path.stat().st_size) != stated["bytes"]:
            raise self._damaged(tar, f"has {size} bytes, {INFO} states {stated['bytes']}")
        if verify and sha256_file(path) != stated["sha256"]:
            raise self._damaged(tar, f"was altered: its sha256 is not the one in {INFO}")
        found: dict[str, dict[str, Place]] = {}
        try:
            for name, offset, length in index.members(tar):
                key, member_name = accept(self.column, name, length)
                members = found.setdefault(key, {})
                if member_name in members or key in self._places:
                    raise ValueError(f"{name!r} is there twice")
                members[member_name] = Place(tar, offset, length)
            self._variants.update((key, count_variants(self.column, key, members)) for key, members in found.items())
        except ValueError as error:
            raise self._damaged(tar, f"is refused: {error}") from None
        self._places.update(found)
        self._keys_of_tar[tar] = sorted(found)

    def _damaged(self, name: str, what: str) -> UserError:
        return UserError(f"{self.folder / name} {what}.", self.column.remedy)


def parse_info(column: Column, data: bytes) -> dict[str, Any]:
    """`column.json` of this column. Raises ValueError, a clause that begins with a verb, where it is anything else."""
    try:
        info = json.loads(data.decode("utf-8"))
        name, version = info["column"], info["version"]
        stated = [info["keys"], *(tar[field] for tar in info["tars"].values() for field in ("bytes", "keys"))]
        texts = [info["digest"], *(tar["sha256"] for tar in info["tars"].values())]
        sound = all(type(n) is int for n in stated) and all(type(text) is str for text in texts)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise ValueError("is damaged")
    if (name, version) != (column.name, column.version):
        raise ValueError(f"is of column {name} version {version}, expected {column.name} version {column.version}")
    return info


def accept(column: Column, name: str, length: int) -> tuple[str, str]:
    """Key and member name of a tar's member. Raises ValueError where the column's schema knows no such member."""
    key, _, member_name = name.partition(".")
    template = _template(member_name)
    member = next((member for member in column.members if member.template == template), None)
    if not KEY.fullmatch(key) or member is None:
        raise ValueError(f"{name[:120]!r} is no member of column {column.name!r}")
    if length > member.max_bytes:
        raise ValueError(f"{name!r} states {length} bytes, the limit is {member.max_bytes}")
    return key, member_name


def lacking_keys(column: Column, split: str, lacking: Sequence[str], total: int) -> UserError:
    """The error of a join: keys of a split that one column does not have."""
    return UserError(
        f"column {column.name!r} lacks {len(lacking):,} of {total:,} keys of split {split!r} (first: {lacking[0]}). "
        "It was built from other patches.",
        column.remedy,
    )


def scan(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every member of a tar, from its headers alone.

    Raises ValueError for anything but regular files under plain names, for a wrong checksum and for a cut-off tar.
    """
    with path.open("rb", buffering=0) as file:
        descriptor, size, position = file.fileno(), os.fstat(file.fileno()).st_size, 0
        while True:
            header = os.pread(descriptor, _BLOCK, position)
            if len(header) != _BLOCK:
                raise ValueError("the tar is cut off")
            if header == bytes(_BLOCK):
                break
            name, length = parse_header(header)
            offset = position + _BLOCK
            position = offset + -(-length // _BLOCK) * _BLOCK
            if position + _BLOCK > size:
                raise ValueError(f"{name!r} is cut off")
            yield name, offset, length
        while data := os.pread(descriptor, 1 << 16, position):
            if data.strip(b"\0"):
                raise ValueError("data follows the end of the archive")
            position += len(data)


def parse_header(header: bytes) -> tuple[str, int]:
    """Name and size of a USTAR header; our names fit its first field and our sizes its octal digits."""
    try:
        name = header[:100].rstrip(b"\0").decode("ascii")
        length = int(header[124:136].rstrip(b"\0 "), 8)
        checksum = int(header[148:156].strip(b"\0 "), 8)
    except ValueError:
        raise ValueError(f"a malformed header near {header[:40]!r}") from None
    if header[257:265] != b"ustar\x0000" or checksum != sum(header) - sum(header[148:156]) + 8 * 32:
        raise ValueError(f"{name!r} has no intact USTAR header")
    if header[156:157] != b"0":
        raise ValueError(f"{name!r} is not a regular file (type {chr(header[156])!r})")
    if header[345:500].strip(b"\0") or "/" in name or ".." in name or "\0" in name:
        raise ValueError(f"{name!r} is not a plain name")
    return name, length


def base_of(name: str) -> str:
    """The base name of a member name: "lr.png" of "lr.0.png"."""
    return _template(name).replace(".{k}", "")


def _template(name: str) -> str:
    """The template a member name comes from: "lr.{k}.png" of "lr.0.png"; no template for a name like "lr.00.png"."""
    parts = name.split(".")
    if len(parts) != 3:
        return name
    numbered = parts[1].isdecimal() and len(parts[1]) < 10 and str(int(parts[1])) == parts[1]
    return f"{parts[0]}.{{k}}.{parts[2]}" if numbered else ""


def count_variants(column: Column, key: str, names: Iterable[str]) -> int:
    """Variants of a key whose members are complete. Raises ValueError where one is missing."""
    names, indexed, plain = set(names), column.members_of(0), column.members_of(None)
    count = (len(names) - len(plain)) // len(indexed) if indexed else 0
    wanted = {member.base for member in plain} | {member.name(k) for member in indexed for k in range(count)}
    if wanted != names or (indexed and count == 0):
        raise ValueError(f"{key} holds {', '.join(sorted(names))} and not a whole sample")
    return count


def _split_of(tar: str) -> str:
    return tar.rpartition("-")[0]


def _open(path: Path) -> io.FileIO:
    # Closed by the reference count: a thread may still read a file that has fallen out of the table of open ones.
    return path.open("rb", buffering=0)
