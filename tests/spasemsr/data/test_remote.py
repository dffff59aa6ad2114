"""Columns fetched from elsewhere: verified, kept, fetched again only where they changed; anything else is refused."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from spasemsr.data import remote
from spasemsr.data.columns import LR
from spasemsr.data.dataset import Dataset
from spasemsr.data.remote import fetch_columns
from spasemsr.errors import UserError
from tests.worlds.served import served
from tests.worlds.toy_columns import Toy, patches_of, photographs

PATCHES = patches_of(photographs(12))


@pytest.fixture
def toy(tmp_path) -> Toy:
    toy = Toy(tmp_path / "toy")
    toy.hr(PATCHES)
    toy.lr(PATCHES)
    return toy


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_fetched_is_the_folder_and_is_not_fetched_twice(toy, tmp_path):
    with served(toy.shards) as (root, asked):
        folder = fetch_columns(root + "/", [LR], tmp_path / "cache")
        assert files(folder / "lr") == files(toy.shards / "lr")
        assert Dataset(folder, [LR], "train").digests == Dataset(toy.shards, [LR], "train").digests
        first = len(asked)
        (folder / "lr" / "train-00000.tar").write_bytes(b"cut off")
        assert fetch_columns(root, [LR], tmp_path / "cache") == folder
        assert asked[first:] == ["/lr/column.json", "/lr/train-00000.tar"]
    assert files(folder / "lr") == files(toy.shards / "lr")
    assert not list(folder.rglob("*.partial"))


def test_processes_of_a_launch_fetch_together_what_one_would(toy, tmp_path, monkeypatch):
    """Each would ask for all tars otherwise, at the same time: as often as there are GPUs."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert remote._place_in_launch() == (1, 2)
    mine, together = threading.local(), threading.Barrier(2, timeout=20)  # both are as fast, tar after tar
    monkeypatch.setattr(remote, "_place_in_launch", lambda: (mine.rank, 2))
    monkeypatch.setattr(remote, "Progress", lambda *_, **__: SimpleNamespace(advance=together.wait, close=lambda: None))

    def fetch(rank: int) -> Path:
        mine.rank = rank
        return fetch_columns(root, [LR], tmp_path / "cache")

    with served(toy.shards) as (root, asked), ThreadPoolExecutor(2) as pool:
        folder, same = pool.map(fetch, (0, 1))
    assert folder == same and files(folder / "lr") == files(toy.shards / "lr")
    tars = [path for path in asked if path.endswith(".tar")]
    assert len(tars) > 2 and len(set(tars)) == len(tars)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-512], "shorter than column.json states"),
        (lambda data: data + bytes(512), "longer than column.json states"),
        (lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:], "its sha256 is not the one"),
    ],
)
def test_a_tar_that_is_not_what_was_stated_is_refused_by_address(toy, tmp_path, damage, message):
    place = toy.shards / "lr" / "train-00001.tar"
    place.write_bytes(damage(place.read_bytes()))
    with served(toy.shards) as (root, _), pytest.raises(UserError, match=rf"{root}/lr/train-00001\.tar .*{message}"):
        fetch_columns(root, [LR], tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("column.json")), "an unfinished column was declared whole"
    assert not list((tmp_path / "cache").rglob("train-00001.tar"))


def test_what_is_not_there_and_another_version_are_refused(toy, tmp_path):
    with served(toy.shards) as (root, _):
        info = toy.shards / "lr" / "column.json"
        stated = json.loads(info.read_text())
        info.write_text(json.dumps({**stated, "version": 99}))
        with pytest.raises(UserError, match="version"):
            fetch_columns(root, [LR], tmp_path / "cache")
        info.unlink()
        with pytest.raises(UserError, match=r"column\.json cannot be read"):
            fetch_columns(root, [LR], tmp_path / "cache")
    with pytest.raises(UserError, match="no storage is called 'nowhere'"):
        fetch_columns("nowhere://bucket", [LR], tmp_path / "cache")
