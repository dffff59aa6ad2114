"""A DVC remote in a local folder, damage that DVC finds, and two `dvc repro` at once."""

import shutil
import subprocess

import pytest

from spasemsr.hashing import sha256_bytes
from tests.worlds.photographs import draw_photograph
from tests.worlds.project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project of six drawn photographs with a remote; tests of this module change it in the order they stand in."""
    project = Project(tmp_path_factory.mktemp("remote") / "project", {"embedded.data.packages": []})
    for seed in range(6):
        draw_photograph(project.folder / f"data/raw/{seed}.png", seed)
    remote = project.folder.parent / "storage"
    project.run("dvc", "remote", "add", "-q", "-d", "storage", str(remote))
    return project


def stored(project: Project) -> dict[str, bytes]:
    root = project.folder.parent / "storage"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_two_repros_at_once_leave_what_one_would(project):
    command = ["dvc", "repro", "ingest"]
    options = {"cwd": project.folder, "env": project.environment, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    running = [subprocess.Popen(command, **options, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=240)[0] for process in running]
    codes = [process.returncode for process in running]
    assert 0 in codes, said
    for code, text in zip(codes, said, strict=True):  # DVC either waits or says who is in the way
        assert code == 0 or "lock" in text or "busy" in text, text
    both = project.tree("data/shards/hr", "data/patches.jsonl")
    assert "up to date" in project.repro("ingest")
    assert project.tree("data/shards/hr", "data/patches.jsonl") == both
    shutil.rmtree(project.folder / "data/shards")
    project.cache.rename(project.cache.with_name("former-cache"))
    project.run("dvc", "repro", "-q", "--force", "ingest")
    assert project.tree("data/shards/hr", "data/patches.jsonl") == both


def test_push_moves_new_tars_only_and_pull_brings_all_back(project):
    project.run("dvc", "push", "-q", "ingest")
    tars = project.tree("data/shards/hr")
    first = stored(project)
    held = {sha256_bytes(data) for data in first.values()}
    assert {sha256_bytes(data) for data in tars.values()} <= held

    draw_photograph(project.folder / "data/raw/new.png", 99)
    project.run("dvc", "repro", "-q", "ingest")
    after = project.tree("data/shards/hr")
    rewritten = {path for path in after if path.endswith(".tar") and tars.get(path) != after[path]}
    assert len(rewritten) == 1 and len([path for path in after if path.endswith(".tar")]) >= 3
    project.run("dvc", "push", "-q", "ingest")
    second = stored(project)
    assert {name: second[name] for name in first} == first
    moved = {sha256_bytes(data) for name, data in second.items() if name not in first}
    known = {path: sha256_bytes(data) for path, data in after.items()}
    assert {path for path, sha256 in known.items() if path.endswith(".tar") and sha256 in moved} == rewritten
    assert len(moved) <= len(rewritten) + 4  # column.json, the folder's list, patches and rejects

    shutil.rmtree(project.folder / "data/shards")
    shutil.rmtree(project.folder / ".dvc/cache")
    project.run("dvc", "pull", "-q", "ingest")
    assert project.tree("data/shards/hr") == after


def test_a_flipped_byte_in_a_shard_is_found_by_repro_and_put_right(project):
    before = project.tree("data/shards/hr")
    tar = sorted((project.folder / "data/shards/hr").glob("*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.unlink()  # it may be a link into DVC's cache
    tar.write_bytes(bytes(data))
    refused = project.run("spasemsr", "check", check=False)
    assert refused.returncode == 2 and f"{tar.name} was altered" in refused.stderr
    assert "dvc repro ingest" in refused.stderr
    project.repro("ingest")
    assert project.tree("data/shards/hr") == before
