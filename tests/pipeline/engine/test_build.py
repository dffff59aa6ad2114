"""The engine's promises on toy columns: run once, byte-identical anywhere, resumable, strict, accountable."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.engine.account import read_accounts
from pipeline.engine.build import SampleError
from pipeline.engine.executors import Processes, Serial
from spasemsr.data.columns import HR
from spasemsr.data.shards import ColumnReader
from spasemsr.errors import UserError
from tests.worlds import ROOT
from tests.worlds.toy_columns import NOTE, PaintWorker, Toy, diary, entries, patches_of, photographs, toy_job

PATCHES = patches_of(photographs(8))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, bytes]:
    """All files of the three columns, built serially."""
    toy = Toy(tmp_path_factory.mktemp("reference"))
    for build in (toy.hr, toy.lr, toy.note):
        build(PATCHES)
    return toy.tree()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_column_bytes_do_not_depend_on_the_executor(workers, reference, tmp_path):
    toy, executor = Toy(tmp_path), Processes(workers)
    for build in (toy.hr, toy.lr, toy.note):
        account = build(PATCHES, executor)
        assert (account.state, account.computed, account.cached) == ("done", account.total, 0)
    assert toy.tree() == reference


def test_tars_and_column_json_hold_what_the_design_says(toy):
    account = toy.note(PATCHES)
    folder = toy.shards / NOTE.name
    info = json.loads((folder / "column.json").read_text())
    assert (info["column"], info["version"], info["keys"]) == ("features/note", 3, len(PATCHES))
    assert info["identity"] == {"kind": "note", "version": 1} and info["params"] == {"size": 16}
    assert info["digest"] == account.digest and set(info["tars"]) == {path.name for path in folder.glob("*.tar")}
    for name, stated in info["tars"].items():
        with tarfile.open(folder / name) as tar:
            members = tar.getmembers()
        names = [member.name for member in members]
        assert names == sorted(names) and stated["keys"] == len(names) / 2
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname, m.isreg()) for m in members} == {
            (0, 0, 0, 0o644, "", "", True)
        }
    text = (folder / "column.json").read_text()
    assert str(toy.shards.parent) not in text and os.uname().nodename not in text
    assert sorted(toy.shards.rglob(".*")) == []  # nothing is left beside the outs


def test_evaluation_patches_read_the_other_column(toy):
    toy.note(PATCHES)
    reader = ColumnReader(toy.shards, NOTE)
    for patch in PATCHES:
        assert reader.read(patch.key, "note.json")["source"] == ("hr.png" if patch.split == "train" else "lr.png")


def test_short_batches_are_padded_and_same_batch_size_means_same_bytes(toy, tmp_path):
    book = tmp_path / "diary"
    toy.note(PATCHES[:5], batch_size=3, diary=book)
    assert {line.split()[2] for line in book.read_text().splitlines()} == {"3"}
    small, large = Toy(tmp_path / "small"), Toy(tmp_path / "large")
    for other, batch_size in ((small, 1), (large, 3)):
        other.hr(PATCHES)
        other.lr(PATCHES, batch_size=batch_size)
    # ShrinkWorker's bits depend on the batch size, as a network's may; padding must hide which samples were missing
    assert small.tree() != large.tree()
    large.lr(PATCHES[:7], batch_size=3)
    only = Toy(tmp_path / "only")
    only.hr(PATCHES)
    only.lr(PATCHES[:7], batch_size=3)
    assert only.tree() == large.tree()


def test_a_second_run_computes_nothing(toy, tmp_path, caplog):
    toy.note(PATCHES)
    before, book = toy.tree(), tmp_path / "diary"
    with caplog.at_level("INFO"):
        account = toy.note(PATCHES, Processes(2), diary=book, die_at=PATCHES[0].key)
    assert (account.cached, account.computed) == (16, 0) and diary(book) == []
    assert toy.tree() == before
    assert "note      16 samples · 16 cached · 0 to compute · backend=note@1 · workers=2" in caplog.text
    assert "0 changed" in caplog.text


def test_more_images_cost_only_themselves(toy, tmp_path):
    toy.note(PATCHES)
    before = toy.tree()
    more = patches_of(photographs(10))
    added = [patch for patch in more if patch not in PATCHES]
    assert (toy.hr(more).computed, toy.lr(more).computed) == (4, 6)  # one image each of val and train, two patches each
    account = toy.note(more, diary=tmp_path / "diary", batch_size=3)
    assert account.computed == 4 and set(diary(tmp_path / "diary")) == {patch.key for patch in added}
    after = toy.tree()
    tars = {f"{patch.split}-{patch.bucket:05d}.tar" for patch in added}
    changed = {Path(name).name for name in after if name.endswith(".tar") and before.get(name) != after[name]}
    assert changed == tars


def test_fewer_images_and_back_compute_nothing(toy):
    whole = toy.note(PATCHES)
    fewer = toy.note(PATCHES[:-3])
    assert fewer.computed == 0 and fewer.total == len(PATCHES) - 3 and fewer.digest != whole.digest
    again = toy.note(PATCHES)
    assert again.computed == 0 and again.digest == whole.digest


def test_a_changed_identity_version_or_param_computes_all_again(toy, monkeypatch):
    toy.note(PATCHES)
    assert toy.note(PATCHES, version=2).computed == 16
    monkeypatch.setattr("tests.worlds.toy_columns.SIZE", 17)
    assert toy.note(PATCHES).computed == 16
    monkeypatch.undo()
    monkeypatch.setattr("tests.worlds.toy_columns.NOTE", replace(NOTE, version=4))
    assert toy.note(PATCHES).computed == 16


class Whitewash:
    """hr: white where the patch is one of `keys`, painted elsewhere."""

    def __init__(self, keys):
        self._keys = keys

    def __call__(self, samples):
        white = {"hr.png": np.full((16, 16, 3), 255, np.uint8)}
        painted = PaintWorker()(samples)
        return [white if s.patch.key in self._keys else p for s, p in zip(samples, painted, strict=True)]


def whitewash(toy, keys):
    toy.build(toy_job(HR, partial(Whitewash, keys), kind="whitewash"), PATCHES)


def test_a_changed_input_recomputes_its_own_samples(toy):
    toy.note(PATCHES)
    whitewash(toy, [next(patch.key for patch in PATCHES if patch.split == "train")])
    assert toy.note(PATCHES).computed == 1


def test_equal_inputs_are_computed_once(toy, tmp_path):
    train = [patch for patch in PATCHES if patch.split == "train"]
    whitewash(toy, [patch.key for patch in train])
    account = toy.note(train, diary=tmp_path / "diary", batch_size=1)
    assert len(diary(tmp_path / "diary")) == 1
    assert (account.total, account.computed) == (len(train), len(train))


@pytest.mark.parametrize("damage", [b"", b"short", "flip", "append"])
def test_a_damaged_cache_entry_is_computed_again(toy, reference, tmp_path, damage):
    toy.note(PATCHES)
    entries = {path for path in toy.cache.root.glob("??/*") if b"features/note\n" in path.read_bytes()[:64]}
    victim = sorted(entries)[3]
    data = bytearray(victim.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "append":
        data += b"x"
    else:
        data = bytearray(damage)
    victim.write_bytes(bytes(data))
    account = toy.note(PATCHES, diary=tmp_path / "diary", batch_size=3)
    assert len(diary(tmp_path / "diary")) == 1
    assert (account.cached, account.computed) == (15, 1)
    assert toy.tree() == reference


def test_a_cache_that_is_deleted_while_running_costs_time_only(toy, reference):
    class Saboteur(Serial):
        """Deletes the cache after the third batch, once."""

        deleted = False

        def map(self, make, items):
            for count, outcome in enumerate(super().map(make, items)):
                if count == 3 and not self.deleted:
                    shutil.rmtree(toy.cache.root, ignore_errors=True)  # another lane may write meanwhile
                    self.deleted = True
                yield outcome

    account = toy.note(PATCHES, Saboteur(), batch_size=3)
    assert account.state == "done" and account.cached + account.computed == account.total
    assert toy.tree() == reference


def test_a_cache_that_forgets_everything_ends_in_a_clear_error(toy, monkeypatch):
    monkeypatch.setattr(toy.cache, "get", lambda key: None)
    with pytest.raises(UserError, match="vanish or change as fast"):
        toy.note(PATCHES)


@pytest.mark.parametrize("executor", [Serial(), Processes(2)])
def test_a_failing_sample_stops_the_stage_with_its_key_and_keeps_the_rest(toy, reference, executor):
    victim = PATCHES[6].key
    with pytest.raises(SampleError) as error:
        toy.note(PATCHES, executor, batch_size=1, fail_at=victim)
    text = str(error.value)
    for part in (victim, "features/note", "note@1", "ArithmeticError: this sample is cursed", "Traceback"):
        assert part in text
    assert not (toy.shards / NOTE.name).exists() and sorted(toy.shards.rglob(".*.tmp")) == []
    (account,) = (a for a in read_accounts(toy.cache.root, Path.cwd()) if a.column == NOTE.name)
    assert (account.state, account.failed, account.errors) == ("failed", 1, {"ArithmeticError": 1})
    again = toy.note(PATCHES, batch_size=1)
    assert again.cached == account.computed >= 1 and again.cached + again.computed == 16


def test_a_killed_worker_is_reported_with_its_key_and_the_rest_stays(toy):
    victim = PATCHES[5].key
    with pytest.raises(UserError) as error:
        toy.note(PATCHES, Processes(2), batch_size=1, die_at=victim)
    assert victim in error.value.what and "SIGKILL" in error.value.what and "memory" in error.value.what
    assert "Finished samples are kept" in error.value.remedy
    again = toy.note(PATCHES, batch_size=1)
    assert again.cached >= 4 and again.state == "done"


def start(folder: Path, images: int, workers: int, seconds: float) -> subprocess.Popen:
    program = ROOT / "tests/worlds/toy_columns.py"
    words = [sys.executable, str(program), str(folder), str(images), str(workers), str(seconds)]
    return subprocess.Popen(words, cwd=folder, start_new_session=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_then_resume_gives_the_same_bytes_and_computes_only_the_rest(workers, tmp_path, reference):
    toy = Toy(tmp_path)
    toy.hr(PATCHES)
    toy.lr(PATCHES)
    before = entries(toy)
    process = start(tmp_path, 8, workers, 0.15)
    while entries(toy) < before + 4:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (account,) = (a for a in read_accounts(toy.cache.root, tmp_path) if a.column == NOTE.name)
    assert account.state == "interrupted"
    time.sleep(0.5)
    kept = entries(toy) - before
    time.sleep(0.4)
    assert entries(toy) - before == kept, "a worker outlived its parent"
    account = toy.note(PATCHES, batch_size=1)
    assert account.cached == kept and account.computed == 16 - kept > 0
    undisturbed = Toy(tmp_path / "undisturbed")
    for build in (undisturbed.hr, undisturbed.lr):
        build(PATCHES)
    undisturbed.note(PATCHES, batch_size=1)
    assert toy.tree() == undisturbed.tree()
