"""Columns on object storage or HTTP -> batches, through the `webdataset` library, without a copy on disk.

`Dataset` reads by offset and gives an exact order; it is the default and wants local files. This mode reads tars from
end to end, once per epoch: the same samples and variants, shards in the same permuted order, samples mixed within a
buffer. Columns share their tar names and the order of keys within them, so a join is a zip that compares keys.

Nothing from the network is believed: a tar must have the size and sha256 that `column.json` states, its headers and
names pass the rules of `shards`, members are decoded by the schema alone (the library's own decoders, which unpickle,
and its openers, which run shell commands, are not used), and at most one sample per column and the buffer are held.
"""

import hashlib
import io
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from http.client import HTTPException
from typing import Any, BinaryIO

import webdataset
from webdataset.tariterators import group_by_keys

from spasemsr.data import remote
from spasemsr.data.columns import LR, Column
from spasemsr.data.dataset import NOT_IN_BATCH, Batch, collate
from spasemsr.data.patches import Split
from spasemsr.data.shards import INFO, accept, count_variants, parse_header
from spasemsr.errors import UserError
from spasemsr.randomness import derive_seed, generator

_BLOCK = 512
_END: dict[str, Any] = {}  # what `group_by_keys` takes for the end of a tar


class StreamedDataset:
    """The joined samples of one split below `root`: `http(s)://`, a path, or any scheme fsspec has a package for.

    One of the columns is lr. Opening reads every `column.json`. Rank i of n processes (or loader workers) takes every
    n-th tar, so that together they see each sample once per epoch. Raises UserError naming the address at fault.
    """

    def __init__(
        self,
        root: str,
        columns: Sequence[Column],
        split: Split,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        buffer: int = 128,
    ) -> None:
        self._root, self._columns, self._seed, self._rank, self._world = root.rstrip("/"), columns, seed, rank, world
        self._buffer = buffer
        self._infos = {column.name: remote.read_info(self._root, column)[1] for column in columns}
        self.digests = {name: str(info["digest"]) for name, info in sorted(self._infos.items())}
        of_split = {
            name: {tar: stated["keys"] for tar, stated in info["tars"].items() if tar.startswith(f"{split}-")}
            for name, info in self._infos.items()
        }
        self._tars = sorted(of_split[LR.name])
        for column in columns:
            if of_split[column.name] != of_split[LR.name]:
                what = f"Column {column.name!r} below {self._root} does not hold the tars and keys of 'lr'."
                raise UserError(what, column.remedy)
        if not self._tars:
            raise UserError(f"Split {split!r} below {self._root} holds no samples.", "Run: dvc repro ingest")
        self.size = sum(of_split[LR.name].values())

    def epoch(self, epoch: int) -> Iterator[dict[str, Any]]:
        """This rank's samples of one epoch, each once, in the form of `Dataset.sample`."""
        order = [self._tars[i] for i in generator(self._seed, "shard order", epoch).permutation(len(self._tars))]
        tars = order[self._rank :: self._world]
        mixed = random.Random(derive_seed(self._seed, "sample order", epoch, self._rank))
        shuffle = webdataset.shuffle(self._buffer, initial=self._buffer, rng=mixed)
        decode = partial(map, partial(self._decode, epoch))
        return iter(webdataset.DataPipeline(partial(self._join, tars), shuffle, decode))

    def batches(self, epoch: int, batch_size: int) -> Iterator[Batch]:
        """This rank's batches of one epoch; the last may be short."""
        samples: list[dict[str, Any]] = []
        for sample in self.epoch(epoch):
            samples.append(sample)
            if len(samples) == batch_size:
                yield collate(samples)
                samples = []
        if samples:
            yield collate(samples)

    def _join(self, tars: Sequence[str]) -> Iterator[dict[Column, dict[str, Any]]]:
        """Undecoded samples of all columns side by side; a key that one of them lacks stops the join by name."""
        streams = [self._samples(column, tars) for column in self._columns]
        for parts in itertools.zip_longest(*streams):
            keys = [None if part is None else part["__key__"] for part in parts]
            if len(set(keys)) > 1:
                wanted = min(key for key in keys if key is not None)
                column = next(c for c, key in zip(self._columns, keys, strict=True) if key != wanted)
                raise UserError(f"Column {column.name!r} below {self._root} lacks {wanted}.", column.remedy)
            yield dict(zip(self._columns, parts, strict=True))

    def _decode(self, epoch: int, parts: dict[Column, dict[str, Any]]) -> dict[str, Any]:
        key = next(iter(parts.values()))["__key__"]
        sample: dict[str, Any] = {"key": key}
        counts: dict[Column, int] = {}
        for column, part in parts.items():
            url = part["__url__"]
            names = [name for name in part if not name.startswith("__")]
            try:
                counts[column] = count_variants(column, key, names)
            except ValueError as error:
                raise remote.refused(url, str(error), column) from None
        lr = next(column for column in parts if column.name == LR.name)
        variant = derive_seed(self._seed, "variant", epoch, key) % counts[lr]
        for column, part in parts.items():
            if column.members_of(0) and counts[column] != counts[lr]:
                what = f"has {counts[column]} variants of {key}, column 'lr' {counts[lr]}"
                raise remote.refused(part["__url__"], what, column)
            for member in column.members:
                if member.base not in NOT_IN_BATCH:
                    try:
                        sample[member.base] = member.decode(part[member.name(variant)])
                    except ValueError as error:
                        raise remote.refused(part["__url__"], f"{key}: {error}", column) from None
        return sample

    def _samples(self, column: Column, tars: Sequence[str]) -> Iterator[dict[str, Any]]:
        """One column's undecoded samples, tar by tar: {"__key__", "__url__", member name: bytes}."""
        urls = [{"url": f"{self._root}/{column.name}/{tar}", "tar": tar} for tar in tars]
        pipeline = webdataset.DataPipeline(
            lambda: iter(urls), partial(self._members, column), partial(group_by_keys, lcase=False)
        )
        return iter(pipeline)

    def _members(self, column: Column, sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for source in sources:
            url, stated = source["url"], self._infos[column.name]["tars"][source["tar"]]
            seen: set[str] = set()
            last = ""
            try:
                with remote.open_url(url) as stream:
                    for name, data in _read_tar(stream, column, stated["bytes"], stated["sha256"]):
                        key = name.partition(".")[0]
                        if key < last or name in seen:
                            raise ValueError(f"{name!r} is there twice or out of order")
                        seen = {name} if key > last else seen | {name}
                        last = key
                        yield {"fname": name, "data": data, "__url__": url}
            except ValueError as error:
                raise remote.refused(url, str(error), column) from None
            except (OSError, HTTPException) as error:
                raise remote.unreachable(url, error) from None
            yield _END


def _read_tar(stream: BinaryIO, column: Column, size: int, sha256: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of a tar's members. Raises ValueError unless it is, to its last byte, what was stated."""
    hashed = _Stated(stream, size)
    while (header := hashed.read(_BLOCK)) != bytes(_BLOCK):
        name, length = parse_header(header)
        accept(column, name, length)
        data = hashed.read(length)
        hashed.read(-length % _BLOCK)
        yield name, data
    rest = hashed.read(hashed.left)
    if rest.strip(b"\0") or stream.read(1):
        raise ValueError("data follows the end of the archive")
    if hashed.digest.hexdigest() != sha256:
        raise ValueError(f"its sha256 is not the one in {INFO}")


class _Stated:
    """Reads exactly the bytes that are stated, and hashes them."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self.left, self.digest = stream, size, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises ValueError where the stream, or what was stated of it, ends before."""
        if size > self.left:
            raise ValueError(f"the tar is longer than the bytes {INFO} states")
        parts = io.BytesIO()
        while parts.tell() < size:
            part = self._stream.read(size - parts.tell())
            if not part:
                raise ValueError("the tar is cut off")
            parts.write(part)
        self.left -= size
        data = parts.getvalue()
        self.digest.update(data)
        return data
