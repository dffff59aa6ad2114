"""The real training stages in two processes (gloo, on the CPU): the losses and weights of one, written once.

The method is trained as under SLURM, on two machines, and preempted on the way; the student by torchrun.
"""

import csv
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.worlds import ROOT
from tests.worlds.project import Project, finished_project
from tests.worlds.slurm import Slurm, sbatch_options

SCRIPT = ROOT / "cluster/train.sbatch"
TORCHRUN = "python -m torch.distributed.run --standalone --nproc-per-node 2 --no-python python"  # torchrun

pytestmark = pytest.mark.timeout(1800)  # whole pipelines


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Project, str]:
    """A project in which two processes of two micro-batches each trained a method and a student, and what they said."""
    folder = tmp_path_factory.mktemp("distributed")
    size = {"embedded.train.global_batch": 4, "embedded.train.steps": 6, "embedded.train.accumulate": 2}
    student = {"learners": ["edges"], "embedded.learners.edges.train": {}}
    made, slurm = finished_project(folder / "project"), Slurm(folder / "slurm", nodes=2, tasks_per_node=1)
    made.change(size | student)
    made.environment["SPASEMSR_LAUNCH"] = TORCHRUN
    adapted = made.repro("adapt@edges")  # by the line in dvc.yaml, as all here
    job = {"cwd": made.folder, "environment": made.environment}

    def saved() -> bool:
        return any(made.cache.glob("train/spasemsr.embedded/*/step-00000002"))

    preempted = slurm.sbatch(SCRIPT, "train@spasemsr", preempted_when=saved, **job)
    assert preempted.returncode and "stopped after step" in preempted.stdout, preempted.stdout
    again = slurm.sbatch(SCRIPT, "train@spasemsr", **job)
    assert again.returncode == 0 and " · resumes" in again.stdout, again.stdout
    assert "Running stage 'ground'" not in again.stdout  # nor anything else that was made before
    return made, adapted + again.stdout


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


def test_a_job_asks_for_what_its_script_relies_on():
    """One task for each GPU, a signal in time, and a successor that goes on."""
    asked = sbatch_options(SCRIPT)
    assert asked["ntasks-per-node"] == asked["gpus-per-node"] and int(asked["cpus-per-task"]) > 1
    signal, _, seconds = asked["signal"].partition("@")
    assert signal == "TERM" and int(seconds) >= 120  # to the tasks: B:TERM would reach the script alone
    assert asked["array"].endswith("%1") and "requeue" in asked
