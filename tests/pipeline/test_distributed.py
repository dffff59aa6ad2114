"""The real training stages in two processes (gloo, on the CPU): the losses and weights of one, written once."""

import csv
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.worlds.project import Project

LAUNCH = "python -m torch.distributed.run --standalone --nproc-per-node 2 --no-python python"  # torchrun

pytestmark = pytest.mark.timeout(1800)  # whole pipelines


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Project, str]:
    """A project in which two processes of two micro-batches each trained a method and a student, and what they said."""
    size = {"embedded.train.global_batch": 4, "embedded.train.steps": 6, "embedded.train.accumulate": 2}
    student = {"learners": ["edges"], "embedded.learners.edges.train": {}}
    made = Project(tmp_path_factory.mktemp("distributed") / "project", size | student)
    made.environment["SPASEMSR_LAUNCH"] = LAUNCH
    return made, made.repro("train@spasemsr", "adapt@edges")  # by the lines in dvc.yaml


def outcome(losses: Path, weights: Path) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The numbers of losses.csv, (rows, columns), and the weights."""
    rows = list(csv.reader(losses.open()))[1:]
    return torch.tensor([[float(cell) for cell in row] for row in rows]), load_file(weights)


@pytest.mark.parametrize(
    ("stage", "item", "folder"), [("train", "spasemsr", "models/spasemsr"), ("adapt", "edges", "data/students/edges")]
)
def test_two_processes_of_micro_batches_learn_what_one_process_does(trained, stage, item, folder):
    project, said = trained
    assert re.search(rf"^{stage} +done .* on 2 x ", said, re.MULTILINE), said
    written = project.folder / f"reports/{stage}/{item}/losses.csv", project.folder / folder / "weights.safetensors"
    losses, weights = outcome(*written)
    assert not list((project.cache / "train").glob("*")), "a finished run leaves no state"

    project.change({"embedded.train.accumulate": 1})
    assert " on 1 x " in project.run("python", "-m", "pipeline", stage, item).stderr
    losses_alone, weights_alone = outcome(*written)
    assert losses.shape == losses_alone.shape and len(losses) == 3
    assert torch.allclose(losses, losses_alone, rtol=1e-4)
    assert weights.keys() == weights_alone.keys()
    assert max((weights[name] - weights_alone[name]).abs().max() for name in weights) < 1e-4
