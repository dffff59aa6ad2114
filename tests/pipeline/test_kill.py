"""`kill -9` of `dvc repro` in a column stage and in training: the end is the same as undisturbed, to the byte."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from spasemsr.cache import Cache
from tests.worlds.project import Project, finished_project

pytestmark = pytest.mark.timeout(1800)  # whole pipelines


def before_objects(undisturbed: Project, folder: Path) -> Project:
    """The project as it was when no object had been looked for and nothing trained, with a sample cache of its own."""
    project = undisturbed.copied_to(folder, own_cache=True)
    assert Cache(project.cache).prune("objects").entries > 4
    for made in ("data/shards/objects", "models", "reports/train", ".dvc/cache/runs"):
        shutil.rmtree(project.folder / made)
    lock = project.folder / "dvc.lock"
    recorded = yaml.safe_load(lock.read_text())
    for stage in ("ground", "train@spasemsr"):
        del recorded["stages"][stage]
    lock.write_text(yaml.safe_dump(recorded, sort_keys=False))
    return project


def test_kill_in_ground_and_in_train_leaves_no_trace(tmp_path):
    undisturbed = finished_project(tmp_path / "undisturbed")
    killed = before_objects(undisturbed, tmp_path / "killed")
    entries = len(list(killed.cache.glob("??/*")))

    killed.kill_when(lambda: len(list(killed.cache.glob("??/*"))) > entries + 4, "dvc", "repro", "ground")
    assert not (killed.folder / "data/shards/objects").exists()
    printed = killed.repro("ground")
    total, cached = map(int, re.search(r"ground\s+(\d+) samples · (\d+) cached", printed).groups())
    assert 0 < cached < total

    states = killed.cache / "train"
    killed.kill_when(lambda: any(states.rglob("step-00000002")), "dvc", "repro", "train@spasemsr")
    assert not (killed.folder / "models/spasemsr/weights.safetensors").exists()
    printed = killed.repro("train@spasemsr")
    assert "resum" in printed

    for part in ("data/shards", "models", "reports/train"):
        assert killed.tree(part) == undisturbed.tree(part), part
