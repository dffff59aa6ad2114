"""Streaming columns over HTTP: the same samples as random access, and nothing believed on the way."""

import functools
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from spasemsr.data import remote
from spasemsr.data.columns import CAPTION, LATENTS, LR, OBJECTS
from spasemsr.data.dataset import Dataset
from spasemsr.data.order import Draw
from spasemsr.data.streaming import StreamedDataset
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_bytes
from tests.worlds.toy_columns import Toy, patches_of, photographs, toy_job

PATCHES = patches_of(photographs(12))
COLUMNS = [LR, OBJECTS, CAPTION, LATENTS]


class Fill:
    """Values that differ from sample to sample."""

    def __init__(self, column) -> None:
        self._column = column

    def __call__(self, samples):
        return [self._values(sample) for sample in samples]

    def _values(self, sample):
        number = int(sample.patch.key[:4], 16) / 65536
        values = {
            "objects.json": {"tags": ["sky"], "boxes": [[0, 0, 1, 0.5]], "scores": [number], "source": "hr"},
            "masks.png": np.ones((16, 16), np.uint8),
            "caption.json": {"text": f"{sample.patch.key} {sample.variant}", "prompt": "?"},
            "moments.npy": np.full((4, 2, 2), number, np.float16),
        }
        return {member.base: values[member.base] for member in self._column.members_of(sample.variant)}


def fill(toy: Toy, column, patches=PATCHES) -> None:
    worker = functools.partial(Fill, column)
    toy.build(toy_job(column, worker, kind="fill", seed_inputs=lambda patch, variant: [variant]), patches)


@pytest.fixture
def toy(tmp_path) -> Toy:
    toy = Toy(tmp_path)
    toy.hr(PATCHES)
    toy.lr(PATCHES)
    for column in COLUMNS[1:]:
        fill(toy, column)
    return toy


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def root(toy, monkeypatch):
    """The address of a server of the toy's shards."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(Handler, directory=str(toy.shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def open_all(root: str, **options) -> StreamedDataset:
    return StreamedDataset(root, COLUMNS, "train", seed=3, **options)


def equal(a, b) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("source", ["http", "path", "fsspec"])
def test_an_epoch_holds_the_samples_and_variants_of_random_access_once_each(toy, root, source):
    address = {"http": root, "path": str(toy.shards), "fsspec": f"local://{toy.shards}"}[source]
    near, far = Dataset(toy.shards, COLUMNS, "train"), open_all(address)
    assert far.digests == near.digests and far.size == len(near.keys)
    orders = []
    for epoch in (0, 1, 2):
        samples = list(far.epoch(epoch))
        keys = [sample["key"] for sample in samples]
        assert sorted(keys) == near.keys
        for sample in samples:
            assert equal(sample, near.sample(sample["key"], near.variant(Draw(sample["key"], epoch), 3)))
        assert [sample["key"] for sample in far.epoch(epoch)] == keys
        orders.append(tuple(keys))
    assert len(set(orders)) == 3 and orders[0] != tuple(near.keys)


def test_batches_are_those_of_the_data_set(toy, root):
    near, far = Dataset(toy.shards, COLUMNS, "train"), open_all(root)
    batches = list(far.batches(4, batch_size=3))
    assert [len(batch.keys) for batch in batches] == [3] * (far.size // 3) + [far.size % 3] * bool(far.size % 3)
    for batch in batches:
        same = near.batch([Draw(key, 4) for key in batch.keys], seed=3)
        assert torch.equal(batch.lr, same.lr) and torch.equal(batch.moments, same.moments)
        assert batch.captions == same.captions and batch.hr is None
        assert [objects.scores for objects in batch.objects] == [objects.scores for objects in same.objects]


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_share_an_epoch_without_overlap(toy, root, world):
    keys = [s["key"] for rank in range(world) for s in open_all(root, rank=rank, world=world).epoch(0)]
    assert sorted(keys) == Dataset(toy.shards, COLUMNS, "train").keys


def test_the_buffer_bounds_what_is_held_and_does_not_lose_samples(toy, root):
    for buffer in (1, 2, 5, 1000):
        keys = [sample["key"] for sample in open_all(root, buffer=buffer).epoch(0)]
        assert sorted(keys) == Dataset(toy.shards, COLUMNS, "train").keys


def tar_of(toy: Toy, column=LATENTS) -> Path:
    return next((toy.shards / column.name).glob("train-*.tar"))


def state(tar: Path) -> None:
    """Make column.json state what the tar now is."""
    path = tar.with_name("column.json")
    info = json.loads(path.read_text())
    info["tars"][tar.name] |= {"sha256": sha256_bytes(tar.read_bytes()), "bytes": tar.stat().st_size}
    path.write_text(json.dumps(info))


def flip(tar: Path) -> None:
    data = bytearray(tar.read_bytes())
    data[512 + 130] ^= 1  # a value of the first array
    tar.write_bytes(bytes(data))


def rewrite(tar: Path, change, form=tarfile.USTAR_FORMAT, compress="") -> None:
    with tarfile.open(tar) as old:
        members = [(info, old.extractfile(info).read()) for info in old.getmembers()]
    with tarfile.open(tar, f"w{compress}", format=form) as new:
        for info, data in change(members):
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    state(tar)


def pickled(members):
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    return [(members[0][0], stream.getvalue()), *members[1:]]


def renamed(name):
    def change(members):
        members[0][0].name = name
        return members

    return change


def linked(members):
    members[0][0].type, members[0][0].linkname = tarfile.SYMTYPE, "/etc/passwd"
    return members


DAMAGE = {
    "flipped": (flip, "its sha256 is not the one in column.json"),
    "shorter": (lambda tar: tar.write_bytes(tar.read_bytes()[:2000]), "the tar is cut off"),
    "longer": (lambda tar: tar.write_bytes(tar.read_bytes() + b"x"), "data follows the end"),
    "pickle": (lambda tar: rewrite(tar, pickled), "refused pickled objects"),
    "traversal": (lambda tar: rewrite(tar, renamed("../evil.npy")), "'../evil.npy' is not a plain name"),
    "foreign": (lambda tar: rewrite(tar, renamed("evil.pyd")), "'evil.pyd' is no member of column 'latents'"),
    "link": (lambda tar: rewrite(tar, linked), "is not a regular file (type '2')"),
    "duplicate": (lambda tar: rewrite(tar, lambda m: [m[0], *m]), "is there twice or out of order"),
    "disorder": (lambda tar: rewrite(tar, lambda m: m[::-1]), "is there twice or out of order"),
    "compressed": (lambda tar: rewrite(tar, lambda m: m, compress=":gz"), "longer than the bytes column.json states"),
    "missing tar": (lambda tar: tar.unlink(), "cannot be read: HTTP Error 404"),
    "lost key": (lambda tar: rewrite(tar, lambda m: m[1:]), "Column 'latents' below "),
    "lost last key": (lambda tar: rewrite(tar, lambda m: m[:-1]), "Column 'latents' below "),
    "column.json": (lambda tar: tar.with_name("column.json").write_text("{"), "column.json is refused: is damaged"),
    "no column.json": (lambda tar: tar.with_name("column.json").unlink(), "cannot be read: HTTP Error 404"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_and_hostile_columns_are_refused_by_address(toy, root, case):
    make, words = DAMAGE[case]
    tar = max((toy.shards / "latents").glob("train-*.tar"), key=lambda path: path.stat().st_size)
    make(tar)
    with pytest.raises(UserError) as error:
        list(open_all(root).epoch(0))
    assert words in error.value.what and root in error.value.what


def test_another_column_version_and_other_patches_are_refused_at_opening(toy, root):
    fill(toy, CAPTION, PATCHES[:-6])
    with pytest.raises(UserError, match=r"Column 'caption' below .* does not hold the tars and keys of 'lr'") as error:
        open_all(root)
    assert error.value.remedy == "Run: dvc repro caption"
    with pytest.raises(UserError, match=r"column\.json cannot be read"):
        StreamedDataset("http://127.0.0.1:1", COLUMNS, "train")


@pytest.mark.parametrize("address", ["pipe:touch evil", "no-such-storage://bucket/shards"])
def test_addresses_never_reach_a_shell(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot be opened"):
        StreamedDataset(address, COLUMNS, "train")
    assert list(tmp_path.iterdir()) == []


def test_a_tar_that_never_ends_is_read_no_further_than_stated(toy, monkeypatch):
    class Endless(io.RawIOBase):
        given = 0

        def __init__(self, data):
            self._data = data

        def read(self, size=-1):
            assert size >= 0
            part = self._data.read(size) or bytes(size)
            Endless.given += len(part)
            return part

    plain = remote.open_url
    monkeypatch.setattr(remote, "open_url", lambda url: Endless(plain(url)) if url.endswith(".tar") else plain(url))
    with pytest.raises(UserError, match="data follows the end"):
        list(open_all(str(toy.shards)).epoch(0))
    assert Endless.given < sum(tar.stat().st_size for tar in toy.shards.rglob("*.tar")) + 100
