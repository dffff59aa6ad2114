"""Storage that shows new files late, and remembers of names it was asked for that they were not there."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine import build
from spasemsr import mounts
from spasemsr.cache import Cache
from tests.worlds.toy_columns import Toy, patches_of, photographs

PATCHES = patches_of(photographs(2))


class LateCache(Cache):
    """What a client of NFS sees while another machine writes: entries that it asked for too early stay absent."""

    def __init__(self, root: Path, hidden_for: int = 0) -> None:
        super().__init__(root)
        self.remembered: set[str] = set()
        self.hidden_for = hidden_for  # so many listings show none of the new entries
        self.asked = 0

    def has(self, key: str) -> bool:
        there = super().has(key) and key not in self.remembered
        if not there:
            self.remembered.add(key)
        return there

    def get(self, key: str) -> bytes | None:
        if self.asked < self.hidden_for or key in self.remembered:
            return None
        return super().get(key)

    def present(self, keys: Iterable[str]) -> set[str]:
        found = super().present(keys)
        self.asked += bool(found)
        return found if self.asked >= self.hidden_for else set()


class Elsewhere:
    """An executor whose workers see what they write, as they do on a machine of their own."""

    name, workers = "elsewhere", 1

    def __init__(self, cache: Cache) -> None:
        self._cache, self.computed = cache, 0

    def map(self, make, items):
        handler = make.func(make.args[0], self._cache, *make.args[2:])
        for item in items:
            self.computed += 1
            yield item, handler(item)


def test_names_are_not_asked_for_before_they_are_there(tmp_path):
    toy = Toy(tmp_path)
    plain, toy.cache = toy.cache, LateCache(tmp_path / "cache")
    account = toy.hr(PATCHES, Elsewhere(plain))
    assert account.state == "done" and toy.cache.remembered == set()


def test_what_shared_storage_shows_late_is_waited_for_and_not_computed_again(tmp_path, monkeypatch):
    toy = Toy(tmp_path)
    plain, toy.cache = toy.cache, LateCache(tmp_path / "cache", hidden_for=3)
    slept: list[float] = []
    monkeypatch.setattr(build.time, "sleep", slept.append)
    monkeypatch.setattr(build, "mount_of", lambda folder: mounts.Mount(folder, "nfs4", ("rw",)))
    executor = Elsewhere(plain)
    account = toy.hr(PATCHES, executor)
    assert account.state == "done" and executor.computed == len(PATCHES)
    assert slept == [1, 4, 15]


def test_what_was_deleted_on_this_machine_is_not_waited_for(tmp_path, monkeypatch):
    toy = Toy(tmp_path)
    toy.cache = LateCache(tmp_path / "cache", hidden_for=1)
    monkeypatch.setattr(build.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(build.UserError, match="vanish or change"):
        toy.hr(PATCHES, Elsewhere(Cache(tmp_path / "other")))


def test_the_mount_that_covers_a_folder_is_found(tmp_path, monkeypatch):
    part = mounts.psutil.disk_partitions(all=True)[0]
    parts = [("/", "ext4", "rw"), (str(tmp_path), "nfs4", "rw,lookupcache=pos"), (str(tmp_path / "a"), "xfs", "rw")]
    listed = [type(part)("", point, kind, options) for point, kind, options in parts]
    monkeypatch.setattr(mounts.psutil, "disk_partitions", lambda all: listed)
    found = mounts.mount_of(tmp_path / "b" / "not made yet")
    assert (found.kind, found.options, found.shared) == ("nfs4", ("rw", "lookupcache=pos"), True)
    assert not replace(found, kind="ext4").shared
