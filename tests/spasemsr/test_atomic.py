"""Whole or not at all; nobody's file is replaced unasked; leftovers go by the age that the storage states."""

import errno
import os
import time
from pathlib import Path

import pytest

from spasemsr import atomic


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_in_one_move(tmp_path):
    atomic.write(tmp_path / "sub" / "a", b"one", b" two")
    atomic.write_text(tmp_path / "sub" / "a", "three é")
    assert (tmp_path / "sub" / "a").read_bytes() == "three é".encode() and names(tmp_path / "sub") == ["a"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_what_fails_halfway_leaves_what_was_there(tmp_path, monkeypatch, moment, error):
    atomic.write(tmp_path / "a", b"before")

    def die(*args):
        raise error

    monkeypatch.setattr(os, moment, die)
    with pytest.raises((KeyboardInterrupt, OSError)):
        atomic.write(tmp_path / "a", b"after", flush=True)
    assert (tmp_path / "a").read_bytes() == b"before" and names(tmp_path) == ["a"]


def test_a_file_that_a_person_named_is_whole_or_as_before(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "a")
    atomic.write_through(tmp_path / "link", b"one", b" two")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "sub" / "a").read_bytes() == b"one two"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    atomic.write_through(tmp_path / "pipe", b"one")
    assert os.read(reader, 9) == b"one" and not (tmp_path / "pipe").is_file()
    os.close(reader)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(atomic, "fill", full)
    with pytest.raises(OSError, match="full") as error:
        atomic.write_through(tmp_path / "link", b"three")
    assert error.value.filename == str(tmp_path / "link") and (tmp_path / "sub" / "a").read_bytes() == b"one two"


def test_the_longest_name_that_a_folder_can_hold_can_be_written(tmp_path):
    place = tmp_path / ("m" * 255)
    atomic.write(place, b"x")
    assert names(tmp_path) == ["m" * 255]


@pytest.mark.parametrize("links", [True, False])
def test_only_one_claims_a_place(tmp_path, monkeypatch, links):
    if not links:

        def none(*args):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", none)
    for content, won in ((b"first", True), (b"second", False)):
        partial = atomic.partial_of(tmp_path / "a")
        atomic.fill(partial, content)
        assert atomic.claim(partial, tmp_path / "a") is won
        atomic.remove(partial)
    assert (tmp_path / "a").read_bytes() == b"first" and names(tmp_path) == ["a"]


def test_a_folder_takes_the_place_of_another(tmp_path):
    for number, before in enumerate((None, "folder", "file", "link")):
        place, folder = tmp_path / str(number), tmp_path / f".{number}-new.tmp"
        folder.mkdir()
        (folder / "new").touch()
        if before == "folder":
            place.mkdir()
            (place / "old").touch()
        elif before == "file":
            place.touch()
        elif before == "link":
            place.symlink_to(tmp_path / "0")
        atomic.exchange(folder, place)
        assert names(place) == ["new"] and not place.is_symlink()
    assert names(tmp_path) == ["0", "1", "2", "3"] and names(tmp_path / "0") == ["new"]


def test_leftovers_go_by_their_age_and_nothing_else_does(tmp_path):
    old, fresh, theirs = atomic.partial_of(tmp_path / "x"), atomic.partial_of(tmp_path / "x"), tmp_path / ".a.partial"
    for path, age in ((old, 7200), (fresh, 60), (theirs, 7200)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    atomic.sweep(tmp_path)
    assert names(tmp_path) == sorted([fresh.name, theirs.name])


def test_a_trial_leaves_a_place_as_it_was(tmp_path):
    there, absent = tmp_path / "there.csv", tmp_path / "new" / "absent.csv"
    there.write_text("kept")
    for place in (there, absent):
        atomic.trial(place)
    assert there.read_text() == "kept" and names(absent.parent) == []
    os.mkfifo(tmp_path / "pipe")
    atomic.trial(tmp_path / "pipe")
    for place in (tmp_path, there / "a.csv", tmp_path / ("n" * 256)):
        with pytest.raises(OSError):
            atomic.trial(place)


def test_a_pipe_without_a_name_is_written_through(tmp_path):
    """/dev/stdout before `| jq`, and what a shell puts in the place of >(gzip)."""
    (tmp_path / "link").symlink_to("/dev/fd")
    reading, writing = os.pipe()
    for place in (Path(f"/dev/fd/{writing}"), tmp_path / "link" / str(writing)):
        atomic.trial(place)
        atomic.write_through(place, b"whole")
        assert os.read(reading, 99) == b"whole"
