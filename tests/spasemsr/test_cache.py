"""The sample cache: whole or absent, whatever happens to its files."""

import errno
import multiprocessing
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr import atomic
from spasemsr.cache import Cache, Usage, default_root
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_bytes


def name(i: int) -> str:
    return sha256_bytes(str(i).encode())


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@settings(deadline=None, max_examples=50)
@given(
    payload=st.binary(max_size=300), label=st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=30)
)
def test_any_payload_comes_back(tmp_path_factory, payload, label):
    cache = Cache(tmp_path_factory.mktemp("any"))
    assert cache.get(name(0)) is None and not cache.has(name(0))
    cache.put(name(0), payload, label)
    assert cache.get(name(0)) == payload and cache.has(name(0))
    assert cache.stat() == {label: Usage(1, 32 + len(label.encode()) + 1 + len(payload))}


def test_every_flipped_byte_and_every_cut_is_found_and_deleted(cache):
    cache.put(name(0), b"payload", "hr")
    (path,) = cache.root.glob("??/*")
    sound = path.read_bytes()
    damaged = [sound[:n] for n in range(len(sound))] + [sound + b"x"]
    damaged += [bytes(byte ^ 0x20 if i == n else byte for i, byte in enumerate(sound)) for n in range(len(sound))]
    for data in damaged:
        path.write_bytes(data)
        assert cache.get(name(0)) is None
        assert not path.exists()
    cache.put(name(0), b"payload", "hr")
    assert path.read_bytes() == sound


def test_entries_lie_where_the_design_says(cache):
    cache.put(name(1), b"x")
    assert (cache.root / name(1)[:2] / name(1)).is_file()
    for wrong in ("../../etc/passwd", "ABC", name(1)[:-1], name(1) + "0", ""):
        with pytest.raises(ValueError, match="not a sha256"):
            cache.put(wrong, b"x")
        with pytest.raises(ValueError, match="not a sha256"):
            cache.get(wrong)
    with pytest.raises(ValueError, match="not a label"):
        cache.put(name(1), b"x", "two\nlines")


def test_the_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path / "there"))
    assert default_root() == Cache().root == tmp_path / "there"
    monkeypatch.delenv("SPASEMSR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "spasemsr"


@pytest.mark.parametrize("code, words", [(errno.ENOSPC, "Free space"), (errno.EACCES, "SPASEMSR_CACHE")])
def test_a_full_disk_or_a_forbidden_folder_is_a_clear_error_and_leaves_nothing_torn(cache, monkeypatch, code, words):
    def half(path, *parts, flush):
        path.write_bytes(parts[0][:10])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic, "fill", half)
    with pytest.raises(UserError) as error:
        cache.put(name(0), b"payload", "hr")
    assert str(cache.root) in error.value.what and words in error.value.remedy
    monkeypatch.undo()
    assert cache.stat() == {} and cache.get(name(0)) is None


def write_and_read(root, seed: int) -> int:
    cache = Cache(root)
    payloads = {name(i): bytes([i]) * 5000 for i in range(20)}
    wrong = 0
    for i in range(300):
        key = name((i * 7 + seed) % 20)
        cache.put(key, payloads[key], "race")
        found = cache.get(name((i * 11 + seed) % 20))
        wrong += found not in (None, payloads[name((i * 11 + seed) % 20)])
        if i % 50 == seed:
            cache.prune(label="race")
    return wrong


def test_concurrent_writers_readers_and_pruners_never_see_a_torn_entry(cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.starmap(write_and_read, [(cache.root, 0), (cache.root, 1)]) == [0, 0]
    assert "(temporary)" not in cache.stat()


def test_stat_and_prune_by_label(cache):
    for i in range(6):
        cache.put(name(i), bytes(100), "hr" if i < 4 else "lr")
    (cache.root / "accounts").mkdir()
    (cache.root / "accounts" / "hr.json").write_text("{}")
    assert {label: usage.entries for label, usage in cache.stat().items()} == {"hr": 4, "lr": 2}
    assert cache.prune(label="hr").entries == 4
    assert set(cache.stat()) == {"lr"} and (cache.root / "accounts" / "hr.json").exists()
    assert [cache.has(name(i)) for i in range(6)] == [False] * 4 + [True] * 2
    assert Cache(cache.root / "nowhere").stat() == {} and Cache(cache.root / "nowhere").prune(max_bytes=0) == Usage()


def test_prune_to_a_size_deletes_the_longest_unused(cache):
    now = time.time()
    for i in range(5):
        cache.put(name(i), bytes(100), "hr")
        path = cache.root / name(i)[:2] / name(i)
        os.utime(path, (now, now - 86400 * (10 - i)))
    assert cache.get(name(0)) is not None  # used now, so the youngest
    size = next(iter(cache.stat().values())).bytes // 5
    assert cache.prune(max_bytes=3 * size + 1) == Usage(2, 2 * size)
    assert [cache.has(name(i)) for i in range(5)] == [True, False, False, True, True]
    assert cache.prune(max_bytes=10**9) == Usage()


def test_leftovers_of_killed_processes_are_pruned_once_they_are_old(cache):
    cache.put(name(0), b"x", "hr")
    shard = cache.root / name(0)[:2]
    for suffix, age in (("old", 7200), ("fresh", 0)):
        path = shard / f".{suffix}.partial"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    assert cache.stat()["(temporary)"].entries == 2
    assert cache.prune().entries == 1
    assert [path.name.split(".")[1] for path in shard.glob(".*.partial")] == ["fresh"]
