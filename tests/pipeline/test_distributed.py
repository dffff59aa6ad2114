"""The real training stage in two processes (gloo, on the CPU): the losses and weights of one, written once."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.worlds.project import Project

LAUNCH = "torchrun --standalone --nproc-per-node 2"

pytestmark = pytest.mark.timeout(1800)  # whole pipelines


def outcome(folder: Path) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The numbers of losses.csv, (rows, columns), and the weights."""
    rows = list(csv.reader((folder / "reports/train/spasemsr/losses.csv").open()))[1:]
    numbers = torch.tensor([[float(cell) for cell in row] for row in rows])
    return numbers, load_file(folder / "models/spasemsr/weights.safetensors")


def test_two_processes_of_micro_batches_learn_what_one_process_does(tmp_path):
    size = {"embedded.train.global_batch": 4, "embedded.train.steps": 6, "embedded.train.accumulate": 2}
    project = Project(tmp_path / "project", size)
    project.environment["SPASEMSR_LAUNCH"] = LAUNCH
    project.repro("train@spasemsr")  # by the line in dvc.yaml
    losses, weights = outcome(project.folder)
    (account,) = project.cache.rglob("train/spasemsr.embedded.json")
    assert '"processes": 2' in account.read_text()
    assert not list((project.cache / "train").glob("*")), "a finished run leaves no state"

    project.change({"embedded.train.accumulate": 1})
    project.run("python", "-m", "pipeline", "train", "spasemsr")
    losses_alone, weights_alone = outcome(project.folder)
    assert '"processes": 1' in account.read_text()
    assert losses.shape == losses_alone.shape == (3, 7)
    assert torch.allclose(losses, losses_alone, rtol=1e-4)
    assert weights.keys() == weights_alone.keys()
    assert max((weights[name] - weights_alone[name]).abs().max() for name in weights) < 1e-4
