"""Ray on two nodes, of which one dies in the middle; a Ray of a run's own, and which item killed a worker there."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pipeline.engine.failures import Failed
from pipeline.engine.ray_data import RayData, blocks_of
from tests.worlds.toy_columns import NoteWorker, Toy, patches_of, photographs

MARK = "SPASEMSR_MARK"


class MarkedWorker(NoteWorker):
    """Leaves a file `<node>-<mark>` for each node it runs on, so that a test sees where and in which environment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(seconds=0.1)
        import ray

        node = ray.get_runtime_context().get_node_id()
        (folder / f"{node}-{os.environ.get(MARK)}").touch()


@pytest.fixture
def apart() -> Iterator[Callable[..., object]]:
    """Calls a function in a process of its own and returns what it returns.

    Ray ends the process that it was started in, a minute later and without a word, where a thread that it left behind
    still asks a cluster that is gone: here that would be a worker of the test run.
    """
    pytest.importorskip("ray")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def note_while_a_node_dies(folder: Path) -> tuple[str, str]:
    """The column `note` by Ray into folder/"ray", on two nodes of which one is killed: the state and the executor.

    Every node leaves its marks in folder/"marks".
    """
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1", MARK: "right"})
    import ray
    from ray.cluster_utils import Cluster

    marks, patches, toy = folder / "marks", patches_of(photographs(16)), Toy(folder / "ray")
    marks.mkdir()
    toy.hr(patches)
    toy.lr(patches)
    unseen = {"include_dashboard": False, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **unseen})
    try:
        second = cluster.add_node(num_cpus=1, env_vars={MARK: "wrong"})
        ray.init(address=cluster.address, log_to_driver=False)

        def kill_when_both_work() -> None:
            while len(list(marks.iterdir())) < 2:
                time.sleep(0.05)
            time.sleep(0.5)
            cluster.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill_when_both_work, daemon=True)
        killer.start()
        account = toy.note(patches, RayData(2), batch_size=1, make=partial(MarkedWorker, marks))
        killer.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    return account.state, account.executor


def test_a_node_that_dies_changes_no_byte(apart, tmp_path):
    serial, patches = Toy(tmp_path / "serial"), patches_of(photographs(16))
    serial.hr(patches)
    serial.lr(patches)
    serial.note(patches, batch_size=1)
    assert apart(note_while_a_node_dies, tmp_path) == ("done", "ray")
    assert Toy(tmp_path / "ray").tree() == serial.tree()
    assert {path.name.rpartition("-")[2] for path in (tmp_path / "marks").iterdir()} == {"right"}


class Deadly:
    """Squares integers; 99 kills the worker."""

    def __call__(self, item: int) -> int:
        if item == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


def squares(items: Sequence[int]) -> tuple[dict[int, int | Failed], bool]:
    """By a Ray that is started for this run; and whether it is still there."""
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    return dict(RayData(1).map(Deadly, items)), ray.is_initialized()


def test_the_item_that_kills_its_workers_is_named_and_no_other(apart):
    """By a Ray that is started for this run and ends with it."""
    results, still_there = apart(squares, [*range(20), 99, *range(20, 30)])
    failed = {item: result for item, result in results.items() if isinstance(result, Failed)}
    assert set(failed) == {99} and failed[99].kind == "killed" and "died, twice" in failed[99].what
    assert all(result == item * item for item, result in results.items() if item != 99)
    assert not still_there


@pytest.mark.parametrize("count", [1, 7, 40, 5000])
@pytest.mark.parametrize("workers", [1, 3, 16])
def test_blocks_hold_every_item_once_and_leave_nobody_waiting(count, workers):
    blocks = blocks_of(range(count), workers)
    assert [item for block in blocks.values() for item in block] == list(range(count))
    assert all(block[0] == first for first, block in blocks.items())
    assert max(map(len, blocks.values())) <= 128
    assert min(count, workers * 8) <= len(blocks) <= 2 * max(workers * 8, count / 128)  # not one for each item
