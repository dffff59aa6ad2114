"""What the data engine does when the machine does not cooperate: kills, full disks, damage, clocks, bad folders."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.engine.build import SampleError
from pipeline.engine.executors import Processes
from spasemsr.backends.captioner.spec import RuleCaptionerSpec, identity_of
from spasemsr.cache import Cache
from spasemsr.data.columns import HR, LR, RESTORED
from spasemsr.data.patches import read_patches
from spasemsr.data.shards import ColumnReader
from spasemsr.errors import UserError
from tests.worlds import ROOT, warm
from tests.worlds.noise_project import NoiseProject, photograph
from tests.worlds.toy_columns import NOTE, PaintWorker, Toy, patches_of, photographs, toy_job

PATCHES = patches_of(photographs(8))
EMBEDDED = ("ingest", "synthesize", "restore", "ground", "caption", "latents", "features")


# Kills.


def test_every_column_stage_killed_at_six_moments_ends_in_the_same_bytes():
    """`benchmarks/chaos.py` has as many more as one likes."""
    command = [warm.python(), str(ROOT / "benchmarks" / "chaos.py"), "--rounds", "6"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stdout + result.stderr
    lines = re.findall(r"^(\w+)\s+6 rounds  +(\d+) kills .* (\d+) resumed .* identical$", result.stdout, re.M)
    assert tuple(stage for stage, *_ in lines) == EMBEDDED
    assert all(int(kills) >= 6 for _, kills, _ in lines) and sum(int(resumed) for *_, resumed in lines) >= 5, lines


class Glutton:
    """Needs more memory than its process may have, at one key."""

    def __init__(self, victim: str) -> None:
        self._victim = victim

    def __call__(self, samples):
        if samples[0].patch.key == self._victim:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
            np.ones(1 << 30, np.uint8)
        return PaintWorker()(samples)


def hr_with(toy: Toy, make_worker, executor, patches=PATCHES):
    return toy.build(toy_job(HR, make_worker, params={"size": 16}), patches, executor)


def test_memory_that_runs_out_is_reported_with_the_key_and_the_rest_stays(tmp_path):
    toy, victim = Toy(tmp_path), PATCHES[9].key
    with pytest.raises(SampleError) as error:
        hr_with(toy, partial(Glutton, victim), Processes(2))
    assert victim in str(error.value) and "MemoryError" in str(error.value)
    again = toy.hr(PATCHES)
    assert again.cached >= 4 and again.state == "done"


# The disk.


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A folder on a file system of 256 KiB; where none may be mounted, one whose writers fail as on a full disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
                                           capture_output=True).returncode == 0:  # fmt: skip
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    opened = Path.open

    def full(path, mode="r", *rest, **options):
        if folder in path.parents and ("x" in mode or "w" in mode):
            used = sum(item.stat().st_size for item in folder.rglob("*") if item.is_file())
            if used > 200_000:
                opened(path, "wb").write(b"half")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", full)
    yield folder


@pytest.mark.parametrize("place", ["cache", "shards"])
def test_a_full_disk_is_a_clear_error_leaves_nothing_torn_and_resumes(small_disk, tmp_path, place):
    toy = Toy(tmp_path)
    if place == "cache":
        toy.cache = Cache(small_disk / "cache")
    else:
        toy.shards = small_disk / "shards"
    many = patches_of(photographs(130))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(100_000))
    with pytest.raises(UserError) as error:
        toy.hr(many)
    assert "No space left" in error.value.what and "Free space" in error.value.remedy
    assert str(small_disk) in error.value.what
    assert not (toy.shards / "hr").exists() and list(toy.shards.rglob(".*.tmp")) == []
    for entry in toy.cache.root.glob("??/*"):
        assert not entry.name.endswith(".partial") and toy.cache.get(entry.name) is not None
    assert list((toy.cache.root / "accounts").rglob(".*.partial")) == []
    filler.unlink()
    small_disk = toy.cache.root if place == "cache" else toy.shards
    moved = tmp_path / "larger"
    shutil.copytree(small_disk, moved)  # space is made by moving to a larger disk
    if place == "cache":
        toy.cache = Cache(moved)
    else:
        toy.shards = moved
    again = toy.hr(many)
    assert again.cached > 0 and again.state == "done"
    undisturbed = Toy(tmp_path / "undisturbed")
    undisturbed.hr(many)
    assert toy.tree() == undisturbed.tree()


def test_a_cache_deleted_under_two_workers_costs_time_only(tmp_path):
    toy, undisturbed = Toy(tmp_path / "toy"), Toy(tmp_path / "undisturbed")
    for build in (undisturbed.hr, undisturbed.lr, undisturbed.note):
        build(PATCHES)
    toy.hr(PATCHES)
    toy.lr(PATCHES)
    before = len(list(toy.cache.root.glob("??/*")))

    def delete() -> None:
        while len(list(toy.cache.root.glob("??/*"))) < before + 4:
            time.sleep(0.005)
        shutil.rmtree(toy.cache.root, ignore_errors=True)

    saboteur = threading.Thread(target=delete, daemon=True)
    saboteur.start()
    account = toy.note(PATCHES, Processes(2), seconds=0.02)
    saboteur.join(timeout=10)
    assert not saboteur.is_alive() and account.state == "done"
    assert toy.tree() == undisturbed.tree()


@pytest.mark.parametrize("name", ["train-00000.tar", "column.json"])
def test_a_flipped_byte_in_a_column_is_named_and_the_stage_rebuilds_it_from_the_cache(tmp_path, name):
    toy = Toy(tmp_path)
    toy.hr(PATCHES)
    toy.lr(PATCHES)
    before = toy.tree()
    path = next((toy.shards / "lr").glob("train-*.tar")) if name.endswith(".tar") else toy.shards / "lr" / name
    data = bytearray(path.read_bytes())
    position = 515 if name.endswith(".tar") else data.index(b'"digest": "') + 15
    data[position] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UserError) as error:
        toy.note(PATCHES)
    assert path.name in error.value.what and "altered" in error.value.what
    assert error.value.remedy == "Run: dvc repro synthesize"
    assert toy.lr(PATCHES).computed == 0
    assert toy.tree() == before


# The clock.


def test_clocks_that_jump_change_nothing(tmp_path, monkeypatch):
    toy, undisturbed = Toy(tmp_path / "toy"), Toy(tmp_path / "undisturbed")
    for build in (undisturbed.hr, undisturbed.lr, undisturbed.note):
        build(PATCHES)
    times = iter([4e9, 0.0, 1.7e9, 8e9] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(times))
    for build in (toy.hr, toy.lr, toy.note):
        assert build(PATCHES).state == "done"
    for path in [*toy.shards.rglob("*"), *toy.cache.root.glob("??/*")]:
        os.utime(path, (next(times), next(times)))
    for build in (toy.hr, toy.lr, toy.note):
        account = build(PATCHES)
        assert (account.computed, account.state) == (0, "done") and account.rate >= 0 and account.seconds >= 0
    assert toy.tree() == undisturbed.tree()
    next(times)
    assert toy.cache.prune(max_bytes=10**9).entries == 0  # entries from the past and the future are no leftovers


# The input folder, through the real stages.


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> NoiseProject:
    return NoiseProject(tmp_path, monkeypatch)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_mode) for p in (folder, *folder.rglob("*"))}


def test_odd_files_are_rejected_by_name_and_the_input_folder_is_only_read(workspace, monkeypatch):
    raw = workspace.raw
    photograph(raw / "secret.png", 7)
    os.symlink(raw / "nowhere.png", raw / "dangling.png")
    os.symlink(raw / "self.png", raw / "self.png")
    os.symlink(raw, raw / "again")
    os.symlink("/dev/zero", raw / "endless.png")
    os.mkfifo(raw / "pipe.png")
    (raw / "folder.png").mkdir()
    raw.chmod(0o555)
    (raw / "secret.png").chmod(0)
    whole = Path.read_bytes

    def forbidden(path: Path) -> bytes:  # permission bits do not bind root
        if path.name == "secret.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    workspace.params["embedded"]["data"]["max_reject_rate"] = 1.0
    before = snapshot(raw)
    assert workspace.run("ingest")["ingest"][0] > 0
    assert snapshot(raw) == before
    assert workspace.rejects() == {
        "secret.png": "unreadable",
        "dangling.png": "unreadable",
        "self.png": "unreadable",
        "endless.png": "empty",
        "pipe.png": "empty",
    }
    raw.chmod(0o755)


@pytest.mark.slow
def test_a_hundred_thousand_tiny_files_are_surveyed_within_a_minute_and_a_gigabyte():
    command = [sys.executable, str(ROOT / "benchmarks" / "ingest.py"), "--files", "100000", "--json"]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result["rejects"]["too_small"] > 40_000 and result["ignored"] > 40_000
    assert result["seconds"] < 60 and result["peak_mb"] < 1000


# Incremental.


class Asker:
    """A captioner whose words depend on its question."""

    def __init__(self, spec) -> None:
        self.prompt = spec.question

    def caption(self, images):
        return [f"{self.prompt} {image.mean():.3f}" for image in images]


def test_a_changed_question_or_degradation_recomputes_what_depends_on_it_and_nothing_else(workspace, monkeypatch):
    first = workspace.run(*EMBEDDED)
    assert all(cached == 0 and computed > 0 for computed, cached in first.values())
    total = {stage: computed for stage, (computed, _) in first.items()}

    before = {column: ColumnReader(Path("data/shards"), column).hashes() for column in (LR, RESTORED)}
    workspace.params["degradation"]["override"] = {"noise_range": [1, 20]}
    computed = {stage: computed for stage, (computed, _) in workspace.run(*EMBEDDED).items()}
    moved = {  # a sample whose first noise is not Gaussian draws nothing from this range and stays as it was
        (column.name, *name)
        for column, hashes in before.items()
        for name, sha256 in ColumnReader(Path("data/shards"), column).hashes().items()
        if name[1].endswith(".png") and hashes[name] != sha256
    }
    lr = sum(name[0] == "lr" for name in moved)
    validation = {patch.key for patch in read_patches(Path("data/patches.jsonl")) if patch.split == "val"}
    restored = sum(name[0] == "restored" and name[1] in validation for name in moved)
    assert 0 < restored < lr < total["synthesize"]
    assert computed == {**dict.fromkeys(EMBEDDED, 0), "synthesize": total["synthesize"], "caption": lr,
                        "restore": lr, "ground": restored}  # fmt: skip
    workspace.params["degradation"]["override"] = {}
    assert all(computed == 0 for computed, _ in workspace.run(*EMBEDDED).values())

    known = identity_of(RuleCaptionerSpec(kind="rules"))  # stands for that of weights, which are not here
    monkeypatch.setattr("pipeline.stages.caption.build_captioner", Asker)
    monkeypatch.setattr("pipeline.stages.caption.identity_of", lambda spec: known)
    asker = {"kind": "llava", "source": "llava-1.5-7b", "question": "How?"}
    workspace.params["embedded"]["caption"] = asker
    assert workspace.run("caption")["caption"] == (total["caption"], 0)
    before = {path: path.read_bytes() for path in Path("data/shards").rglob("*.tar")}
    asker["question"] = "Why?"
    others = [stage for stage in EMBEDDED if stage != "caption"]
    assert all(computed == 0 for computed, _ in workspace.run(*others).values())
    assert workspace.run("caption")["caption"] == (total["caption"], 0)
    rewritten = {path.parent.name for path, data in before.items() if path.read_bytes() != data}
    assert rewritten == {"caption"}
    asker["question"] = "How?"
    assert workspace.run("caption")["caption"] == (0, total["caption"])
    assert before == {path: path.read_bytes() for path in before}


def test_one_more_image_in_ten_costs_a_tenth_of_the_first_run(tmp_path):
    toy = Toy(tmp_path)
    first, more = patches_of(photographs(20)), patches_of(photographs(22))
    for patches in (first, more):
        toy.hr(patches)
        toy.lr(patches)
        account = toy.note(patches, seconds=0.01)
        if patches is first:
            whole = account
    assert account.computed == whole.computed // 10
    assert account.backend_seconds <= whole.backend_seconds / 10 + 0.1
    assert account.seconds <= whole.seconds / 10 + 2
    assert NOTE.name == account.column
