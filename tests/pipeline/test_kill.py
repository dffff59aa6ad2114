"""`kill -9` of `dvc repro` in a column stage and in training: the end is the same as undisturbed, to the byte."""

import re

import pytest

from tests.worlds.project import Project

pytestmark = pytest.mark.timeout(1800)  # whole pipelines


def test_kill_in_ground_and_in_train_leaves_no_trace(tmp_path):
    undisturbed = Project(tmp_path / "undisturbed")
    undisturbed.repro("train@spasemsr")
    killed = Project(tmp_path / "killed")
    killed.repro("synthesize", "restore", "latents", "caption")
    entries = len(list(killed.cache.rglob("*")))

    killed.kill_when(lambda: len(list(killed.cache.rglob("*"))) > entries + 4, "dvc", "repro", "ground")
    assert not (killed.folder / "data/shards/objects").exists()
    printed = killed.repro("ground")
    total, cached = map(int, re.search(r"ground\s+(\d+) samples · (\d+) cached", printed).groups())
    assert 0 < cached < total

    states = killed.cache / "train"
    killed.kill_when(lambda: any(states.rglob("step-00000004")), "dvc", "repro", "train@spasemsr")
    assert not (killed.folder / "models/spasemsr/weights.safetensors").exists()
    printed = killed.repro("train@spasemsr")
    assert "resum" in printed

    for part in ("data/shards", "models", "reports/train"):
        assert killed.tree(part) == undisturbed.tree(part), part
