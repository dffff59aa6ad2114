"""Where work runs: in this process, in several, or on a Ray cluster; never what it computes.

An executor builds one handler per worker (a model is loaded once) and passes items to it, three at a time in three
threads, so that others read and store while one computes; the handler keeps its model to one thread at a time. It
yields (item, result) in any order. After the first `Failed` it starts nothing new, lets what is in flight finish, and
ends. Only items and results travel, so both are small: keys and counts.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import wait as wait_for_any
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar

from pipeline.engine.failures import AFTER_DEATH, Failed, guarded
from pipeline.engine.ray_data import RayData
from spasemsr.determinism import LANES, lanes, one_thread, take_device
from spasemsr.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
EXECUTORS = ("serial", "processes", "ray")


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
    return Failed("killed", what, AFTER_DEATH)


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
