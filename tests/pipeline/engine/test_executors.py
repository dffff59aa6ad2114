"""Executors: one handler per worker, failures reported with their item, no process left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.engine.executors import Processes, Serial, build_executor
from pipeline.engine.failures import Failed
from pipeline.engine.ray_data import RayData
from spasemsr.determinism import LANES, one_thread, pin_threads, take_device
from spasemsr.errors import UserError
from tests.worlds import ROOT


class Square:
    """Handles integers; 13 raises, -1 is a user's mistake, 99 kills the worker."""

    def __init__(self, log: Path | None = None, broken: bool = False) -> None:
        if broken:
            raise FileNotFoundError("no weights here")
        if log is not None:
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")

    def __call__(self, item: int) -> int:
        if item == 13:
            raise ValueError("unlucky")
        if item == -1:
            raise UserError("the disk is full", "free it")
        if item == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return item * item


EXECUTORS = [Serial(), Processes(1), Processes(3)]
IDS = ["serial", "processes-1", "processes-3"]


@pytest.mark.parametrize("executor", EXECUTORS, ids=IDS)
def test_every_item_is_handled_once_by_handlers_built_once_per_worker(executor, tmp_path):
    log = tmp_path / "log"
    assert sorted(executor.map(partial(Square, log), range(20, 50))) == [(i, i * i) for i in range(20, 50)]
    built = log.read_text().split()
    assert len(built) == len(set(built)) == executor.workers
    assert (str(os.getpid()) in built) == (executor.name == "serial")
    assert list(executor.map(Square, [])) == []
    assert list(executor.map(Square, [3])) == [(3, 9)]


@pytest.mark.parametrize("executor", EXECUTORS, ids=IDS)
def test_after_a_failure_nothing_new_starts_and_what_is_in_flight_finishes(executor):
    outcomes = dict(executor.map(Square, [2, 13, *range(20, 5000)]))
    failure = outcomes.pop(13)
    assert isinstance(failure, Failed) and (failure.kind, failure.what) == ("ValueError", "unlucky")
    assert "Traceback" in failure.trace and "Square" not in failure.remedy
    assert outcomes[2] == 4 and len(outcomes) < 4000  # the others worked while the one that fails started
    (outcome,) = executor.map(Square, [-1])
    assert outcome == (-1, Failed("UserError", "the disk is full", "free it"))


@pytest.mark.parametrize("executor", EXECUTORS, ids=IDS)
def test_a_handler_that_cannot_be_built_fails_its_items(executor):
    outcomes = list(executor.map(partial(Square, broken=True), range(30)))
    assert 1 <= len(outcomes) <= LANES * executor.workers
    assert {(result.kind, result.what) for _, result in outcomes} == {("FileNotFoundError", "no weights here")}


def test_a_killed_worker_is_reported_with_its_item_and_the_others_finish():
    outcomes = dict(Processes(2).map(Square, [99, *range(20, 60)]))
    failure = outcomes.pop(99)
    assert failure.kind == "killed" and "SIGKILL" in failure.what and "memory" in failure.what
    assert 1 <= len(outcomes) <= 40


def test_workers_end_with_a_caller_that_stops_early():
    outcomes = Processes(2).map(Square, range(20, 60))
    next(outcomes)
    children = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
    assert len(children) == 2
    outcomes.close()
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_workers_end_when_their_parent_is_killed(tmp_path):
    log = tmp_path / "log"
    program = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from pipeline.engine.executors import Processes
from tests.pipeline.engine.test_executors import Sleep
list(Processes(2).map(Sleep, [Path({str(log)!r})] * 2))
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    while not (log.exists() and len(log.read_text().split()) == 2):
        assert parent.poll() is None
        time.sleep(0.05)
    workers = [psutil.Process(int(pid)) for pid in log.read_text().split()]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert psutil.wait_procs(workers, timeout=5)[1] == []


class Sleep:
    """Writes its process id down and computes for a minute without looking up."""

    def __call__(self, log: Path) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(60)


def test_which_executor_is_chosen():
    assert isinstance(build_executor(None, 1), Serial) and build_executor(None, 3).workers == 3
    assert build_executor("processes", 1).name == "processes" and build_executor("ray", 2).name == "ray"
    with pytest.raises(UserError, match="serial executor has one worker, not 2"):
        build_executor("serial", 2)
    with pytest.raises(UserError, match="No executor 'slurm'") as error:
        build_executor("slurm", 2)
    assert "serial, processes, ray" in error.value.remedy


@pytest.mark.parametrize(
    "share, fine", [("0.25", True), ("2", True), ("", True), ("1.5", False), ("half", False), ("-1", False)]
)
def test_a_share_of_a_gpu_is_checked(monkeypatch, share, fine):
    monkeypatch.setenv("SPASEMSR_GPUS_PER_WORKER", share)
    if fine:
        build_executor("ray", 2)
    else:
        with pytest.raises(UserError, match="SPASEMSR_GPUS_PER_WORKER"):
            build_executor("ray", 2)


def test_a_missing_ray_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as error:
        list(RayData(2).map(Square, [1]))
    assert "spasemsr[ray]" in error.value.remedy


def test_workers_get_one_gpu_each_in_turn(monkeypatch):
    for visible, expected in (("0,1,2", ["0", "1", "2", "0"]), ("GPU-a", ["GPU-a"] * 4), ("", [""] * 4)):
        taken = []
        for index in range(4):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
            take_device(index)
            taken.append(os.environ["CUDA_VISIBLE_DEVICES"])
        assert taken == expected


def test_one_thread_and_true_fp32_inside_and_the_former_settings_afterwards(monkeypatch):
    import torch

    def settings() -> tuple[object, ...]:
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        products = matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cudnn.allow_tf32
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), *products

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = settings()
    with warnings.catch_warnings(action="error"), one_thread():
        assert settings() == (1, True, "ieee", "ieee", "ieee", False)
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
        torch.backends.cudnn.conv.fp32_precision = "tf32"  # as a library may
        pin_threads()
        assert settings() == (1, True, "ieee", "ieee", "ieee", False)
    assert settings() == before
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_no_compiler_of_a_launcher_turns_tf32_on(monkeypatch):
    """`accelerate launch` names one in the environment; on a GPU accelerate then computes float32 products in TF32."""
    from accelerate.utils import TorchDynamoPlugin

    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    assert TorchDynamoPlugin().backend == "INDUCTOR"
    with one_thread():
        assert TorchDynamoPlugin().backend == "NO"
    assert TorchDynamoPlugin().backend == "INDUCTOR"
    pin_threads()
    assert TorchDynamoPlugin().backend == "NO"
