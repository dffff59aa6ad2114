"""The executor Ray Data: workers on this machine or on a cluster, one handler each; only keys and counts travel."""

import logging
import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.engine.failures import AFTER_DEATH, Failed, guarded
from spasemsr.determinism import one_thread
from spasemsr.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
_ATTEMPTS = 2
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_ENVIRONMENT["RAY_BACKEND_LOG_LEVEL"] = "fatal"  # what matters comes back as an exception
_STORE_BYTES = 128 << 20  # it holds keys and counts only


class RayData:
    """`workers` actors of Ray Data on this machine or, with RAY_ADDRESS, on a cluster that shares storage with it.

    `gpus_per_worker` is a share of a device; by default the cluster's GPUs divided among the workers. An item whose
    worker dies (a machine may leave the cluster) is tried once more elsewhere, then reported.
    """

    name = "ray"

    def __init__(self, workers: int, gpus_per_worker: float | None = None) -> None:
        self.workers, self._gpus_per_worker = workers, gpus_per_worker

    def map(self, make: Callable[[], Callable[[T], R]], items: Sequence[T]) -> Iterator[tuple[T, R | Failed]]:
        """Handle items in the order in which Ray finishes them; after a failure those in flight are given up."""
        if not items:
            return
        ray = _import_ray()
        started = not ray.is_initialized()
        if started:
            _start_ray(ray, self.workers)
        unfinished = dict(enumerate(items))
        try:
            attempts = ray.remote(num_cpus=0)(_Attempts).remote()
            rows = [{"index": index, "item": pickle.dumps(item)} for index, item in unfinished.items()]
            results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _RayWorker,
                fn_constructor_args=(pickle.dumps(make), attempts, os.getcwd(), sys.path),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                num_cpus=1,
                num_gpus=self._gpus(ray),
            )
            for row in results.iter_rows():
                result = pickle.loads(row["result"])
                yield unfinished.pop(int(row["index"])), result
                if isinstance(result, Failed):
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


class _Attempts:
    """An actor that counts how often each item was begun, so that one which kills its workers is found."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, index: int) -> int:
        self._begun[index] += 1
        return self._begun[index]


class _RayWorker:
    """The actor: one handler, in the folder and with the import path of the process that started the stage."""

    def __init__(self, factory: bytes, attempts: Any, folder: str, path: Sequence[str]) -> None:
        self._threads = one_thread()
        self._threads.__enter__()  # for the life of the actor
        sys.path += [entry for entry in path if entry not in sys.path]
        os.chdir(folder)  # the record's relative paths mean the same on every machine that shares storage
        self._attempts = attempts
        self._handler = guarded(lambda: pickle.loads(factory)())

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        results = [self._handle(int(i), item) for i, item in zip(rows["index"], rows["item"], strict=True)]
        return {"index": rows["index"], "result": [pickle.dumps(result) for result in results]}

    def _handle(self, index: int, item: bytes) -> Any:
        import ray

        if ray.get(self._attempts.begin.remote(index)) > _ATTEMPTS:
            what = f"the worker process that held it died, {_ATTEMPTS} times; memory may have run out"
            return Failed("killed", what, AFTER_DEATH)
        return self._handler(pickle.loads(item))


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
        ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures come back as `Failed`
