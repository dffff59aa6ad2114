"""Where work runs: in this process, in several, or on a Ray cluster; never what it computes.

An executor builds one handler per worker (a model is loaded once) and passes items to it, three at a time in three
threads, so that others read and store while one computes; the handler keeps its model to one thread at a time. It
yields (item, result) in any order. After the first `Failed` it starts nothing new, lets what is in flight finish, and
ends. Only items and results travel, so both are small: keys and counts.
"""

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for_any
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from pipeline.isolation import LANES, lanes, one_thread, pin_threads, take_device
from spasemsr.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
_AFTER_DEATH = "Finished samples are kept: run the stage again, with fewer workers if memory is short."
_RAY_ATTEMPTS = 2
_RAY_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_RAY_ENVIRONMENT["RAY_BACKEND_LOG_LEVEL"] = "fatal"  # what matters comes back as an exception
_RAY_STORE_BYTES = 128 << 20  # it holds keys and counts only
EXECUTORS = ("serial", "processes", "ray")


@dataclass(frozen=True)
class Failed:
    """An item that was not finished: `kind` is an exception's class, or "killed" for a worker that died."""

    kind: str
    what: str
    remedy: str = ""
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failed":
        """An exception in a form that any process can read."""
        if isinstance(error, UserError):
            return cls("UserError", error.what, error.remedy)
        trace = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, str(error).strip() or type(error).__name__, trace=trace)


class Executor(Protocol):
    """`make` builds a worker's handler and must survive pickling, as must items and results."""

    name: str
    workers: int

    def map(self, make: Callable[[], Callable[[T], R]], items: Sequence[T]) -> Iterator[tuple[T, R | Failed]]:
        """Handle every item once."""
        ...


def build_executor(name: str | None, workers: int) -> Executor:
    """The executor of this name; by default serial for one worker and processes for more."""
    match name or ("serial" if workers == 1 else "processes"):
        case "serial":
            if workers > 1:
                raise UserError(
                    f"The serial executor has one worker, not {workers}.",
                    "Leave SPASEMSR_WORKERS unset, or set SPASEMSR_EXECUTOR=processes.",
                )
            return Serial()
        case "processes":
            return Processes(workers)
        case "ray":
            return RayData(workers, _gpu_share(os.environ.get("SPASEMSR_GPUS_PER_WORKER")))
        case other:
            raise UserError(f"No executor {other!r}.", f"SPASEMSR_EXECUTOR is one of {', '.join(EXECUTORS)}.")


def _gpu_share(text: str | None) -> float | None:
    try:
        share = None if not text else float(text)
    except ValueError:
        share = -1.0
    if share is not None and not (0.0 <= share <= 1.0 or (share.is_integer() and share > 0)):
        raise UserError(f"SPASEMSR_GPUS_PER_WORKER is {text!r}.", "Set a share of a GPU in [0, 1], or a whole number.")
    return share


class Serial:
    """One handler, in this process."""

    name, workers = "serial", 1

    def map(self, make: Callable[[], Callable[[T], R]], items: Sequence[T]) -> Iterator[tuple[T, R | Failed]]:
        """Hand out items in order."""
        if not items:
            return
        with one_thread():
            handler, source, stopping = guarded(make), iter(items), False
            with lanes() as pool:
                busy = {pool.submit(handler, item): item for item in islice(source, LANES)}
                while busy:
                    for ready in wait_for_any(busy, return_when=FIRST_COMPLETED).done:
                        item, result = busy.pop(ready), ready.result()
                        stopping = stopping or isinstance(result, Failed)
                        for following in () if stopping else islice(source, 1):
                            busy[pool.submit(handler, following)] = following
                        yield item, result


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    items: dict[int, Any]  # what it holds, by number

    def take(self, connection: Connection, source: Iterator[tuple[int, Any]]) -> None:
        """Give it the next item, if there is one."""
        for number, item in islice(source, 1):
            self.items[number] = item
            with contextlib.suppress(BrokenPipeError):  # it is dead; waiting for its answer will say so
                connection.send((number, item))

    def results(self, connection: Connection) -> list[tuple[Any, Any]]:
        """Its next answer, or its death for all that it held."""
        try:
            number, result = connection.recv()
            return [(self.items.pop(number), result)]
        except (EOFError, ConnectionResetError):
            death, held, self.items = _death(self.process), self.items, {}
            return [(item, death) for item in held.values()]


class Processes:
    """`workers` spawned processes, one handler each; they end with this process, even if it is killed."""

    name = "processes"

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, make: Callable[[], Callable[[T], R]], items: Sequence[T]) -> Iterator[tuple[T, R | Failed]]:
        """Hand out items three at a time; a worker that dies is reported with the items it held."""
        source = enumerate(items)
        factory = pickle.dumps(make)
        busy: dict[Connection, _Worker] = {}
        ended: list[multiprocessing.process.BaseProcess] = []
        stopping = False
        try:
            for index in range(min(self.workers, len(items))):
                connection, process = self._start(factory, index)
                busy[connection] = _Worker(process, {})
            for connection, worker in [*busy.items()] * LANES:
                worker.take(connection, source)
            while busy:
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    worker = busy[ready]
                    results = worker.results(ready)
                    stopping = stopping or isinstance(results[0][1], Failed)
                    yield from results
                    if not stopping:
                        worker.take(ready, source)
                    if not worker.items:
                        ended.append(busy.pop(ready).process)
                        ready.close()
        finally:
            for connection, worker in busy.items():  # only when the caller stops early
                connection.close()
                worker.process.terminate()
                ended.append(worker.process)
            for process in ended:
                process.join()

    @staticmethod
    def _start(factory: bytes, index: int) -> tuple[Connection, multiprocessing.process.BaseProcess]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, factory, index), name=f"worker-{index}", daemon=True)
        process.start()
        theirs.close()
        return ours, process


def _death(process: multiprocessing.process.BaseProcess) -> Failed:
    process.join()
    code = process.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        often = ", which the system sends when memory runs out" if name == "SIGKILL" else ""
        what = f"a worker process was killed by {name}{often}"
    else:
        what = f"a worker process ended with status {code}"
    return Failed("killed", what, _AFTER_DEATH)


def _work(connection: Connection, factory: bytes, index: int) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    take_device(index)
    sending = threading.Lock()

    def answer(number: int, item: Any) -> None:
        result = handler(item)
        with sending, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send((number, result))

    with one_thread():
        handler = guarded(lambda: pickle.loads(factory)())
        with lanes() as pool, contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                pool.submit(answer, *connection.recv())


def _exit_with(parent: multiprocessing.process.BaseProcess) -> None:
    wait([parent.sentinel])
    os._exit(1)


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

        if ray.get(self._attempts.begin.remote(index)) > _RAY_ATTEMPTS:
            what = f"the worker process that held it died, {_RAY_ATTEMPTS} times; memory may have run out"
            return Failed("killed", what, _AFTER_DEATH)
        return self._handler(pickle.loads(item))


def _import_ray() -> Any:
    for name, value in _RAY_ENVIRONMENT.items():
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
        ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=_RAY_STORE_BYTES, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures come back as `Failed`


def guarded(make: Callable[[], Callable[[T], R]]) -> Callable[[T], R | Failed]:
    """A handler that returns `Failed` where `make`'s raises; if `make` itself raises, every item fails with that."""
    try:
        handler = make()
        pin_threads()
    except Exception as error:
        failure = Failed.of(error)
        return lambda item: failure

    def attempt(item: T) -> R | Failed:
        try:
            return handler(item)
        except Exception as error:
            return Failed.of(error)

    return attempt
