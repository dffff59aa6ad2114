"""The executor Ray Data: workers on this machine or on a cluster, one handler each; only keys and counts travel.

Items go out in blocks, because a task of Ray's costs milliseconds and a worker alone with one item would wait for
storage: a block is worked through in lanes, as the other executors do.
"""

import logging
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.engine.failures import AFTER_DEATH, Failed, guarded
from spasemsr.determinism import lanes, one_thread
from spasemsr.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_ENVIRONMENT["RAY_BACKEND_LOG_LEVEL"] = "fatal"  # what matters comes back as an exception
# What a worker needs of the environment in which the stage was started: where samples and weights lie.
_SENT = ("SPASEMSR_", "HF_", "TORCH_HOME", "TRANSFORMERS_", "XDG_CACHE_HOME")
_STORE_BYTES = 128 << 20  # it holds keys and counts only
_PATIENCE = 60.0  # seconds
_LARGEST_BLOCK, _BLOCKS_PER_WORKER = 128, 8  # a block that is lost with its machine is begun again


class RayData:
    """`workers` actors of Ray Data on this machine or, with RAY_ADDRESS, on a cluster that shares storage with it.

    `gpus_per_worker` is a share of a device; by default the cluster's GPUs divided among the workers. What a dead
    worker held (a machine may leave the cluster) is begun again elsewhere, one item at a time; an item that is there
    when a second worker dies is reported.
    """

    name = "ray"

    def __init__(self, workers: int, gpus_per_worker: float | None = None) -> None:
        self.workers, self._gpus_per_worker = workers, gpus_per_worker

    def map(self, make: Callable[[], Callable[[T], R]], items: Sequence[T]) -> Iterator[tuple[T, R | Failed]]:
        """Items in the order in which Ray finishes their blocks; after a failure those in flight are given up."""
        if not items:
            return
        ray = _import_ray()
        started = not ray.is_initialized()
        if started:
            _start_ray(ray, self.workers)
        unfinished = dict(enumerate(items))
        try:
            begun = _here(ray, _Begun)
            rows = [
                {"first": first, "items": pickle.dumps(block)}
                for first, block in blocks_of(items, self.workers).items()
            ]
            environment = {name: value for name, value in os.environ.items() if name.startswith(_SENT)}
            results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _RayWorker,
                fn_constructor_args=(pickle.dumps(make), begun, os.getcwd(), sys.path, environment),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                num_cpus=1,
                num_gpus=self._gpus(ray),
            )
            for row in results.iter_rows():
                answers = pickle.loads(row["results"])
                for index, result in enumerate(answers, start=int(row["first"])):
                    yield unfinished.pop(index), result
                if any(isinstance(result, Failed) for result in answers):
                    return
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            yield next(iter(unfinished.values())), Failed("RayError", f"{lines[0]} {lines[-1]}", trace=str(error))
        finally:
            if started:
                ray.shutdown()

    def _gpus(self, ray: Any) -> float:
        if self._gpus_per_worker is not None:
            return self._gpus_per_worker
        return min(1.0, int(ray.cluster_resources().get("GPU", 0) / self.workers * 100) / 100)


def blocks_of(items: Sequence[T], workers: int) -> dict[int, list[T]]:
    """Items in blocks by the index of their first: several for each worker, so that none waits long for the last."""
    size = min(max(len(items) // (workers * _BLOCKS_PER_WORKER), 1), _LARGEST_BLOCK)
    return {first: list(items[first : first + size]) for first in range(0, len(items), size)}


class _Begun:
    """An actor that knows how often each block was begun and at which item a worker died, to find the one to blame."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._at: dict[int, int | None] = {}
        self._blamed: dict[int, set[int]] = {}

    def begin(self, block: int) -> tuple[int, set[int]]:
        """How often this block was begun, this time included, and the items at which its workers died."""
        self._begun[block] += 1
        if (item := self._at.pop(block, None)) is not None:
            self._blamed.setdefault(block, set()).add(item)
        return self._begun[block], self._blamed.get(block, set())

    def enter(self, block: int, item: int | None) -> None:
        """The item that a worker is at now, None after the last."""
        self._at[block] = item


class _RayWorker:
    """The actor: one handler, with folder, import path and environment of the process that started the stage."""

    def __init__(
        self, factory: bytes, begun: Any, folder: str, path: Sequence[str], environment: dict[str, str]
    ) -> None:
        self._threads = one_thread()
        self._threads.__enter__()  # for the life of the actor
        sys.path += [entry for entry in path if entry not in sys.path]
        os.environ.update(environment)
        os.chdir(folder)  # the record's relative paths mean the same on every machine that shares storage
        self._begun = begun
        self._handler = guarded(lambda: pickle.loads(factory)())

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        results = [
            self._block(int(i), pickle.loads(items)) for i, items in zip(rows["first"], rows["items"], strict=True)
        ]
        return {"first": rows["first"], "results": [pickle.dumps(answers) for answers in results]}

    def _block(self, first: int, items: list[Any]) -> list[Any]:
        """In lanes; where a worker has died with this block before, one item at a time, to learn which is to blame."""
        begun, blamed = _ask(self._begun.begin, first)
        if begun == 1:
            with lanes() as threads:
                return list(threads.map(self._handler, items))
        answers: list[Any] = []
        for index, item in enumerate(items, start=first):
            if index in blamed:
                what = "the worker process that held it died, twice; memory may have run out"
                answers.append(Failed("killed", what, AFTER_DEATH))
                continue
            _ask(self._begun.enter, first, index)
            answers.append(self._handler(item))
        _ask(self._begun.enter, first, None)
        return answers


def _here(ray: Any, cls: type) -> Any:
    """An actor on the machine of this process: it ends with the run, and not with a machine that leaves the cluster."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(cls).remote()


def _ask(method: Any, *arguments: Any) -> Any:
    """An actor's answer. While connections break, as when a machine leaves, it is asked again, for a minute.

    `begin` may then count a block twice, whose items are done one at a time; nothing else follows from it.
    """
    import ray

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return ray.get(method.remote(*arguments))
        except ray.exceptions.ActorUnavailableError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def _import_ray() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError(
            "The executor ray needs Ray, which is not installed.",
            "Install the extra: pip install 'spasemsr[ray]'; or set SPASEMSR_EXECUTOR=processes.",
        ) from None
    return ray


def _start_ray(ray: Any, workers: int) -> None:
    """Join the cluster of RAY_ADDRESS, or start one here that ends with this process."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        # a cluster that somebody else started on this machine is not ours
        ray.init(address="local", num_cpus=workers, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures come back as `Failed`
