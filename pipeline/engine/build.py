"""The driver that every column stage shares: plan, cache hits, compute the misses, write the folder of tars.

A unit of work is one cache entry: a patch, or one variant of it. Its name is a hash of everything that can change its
bytes, so a sample is never computed twice and a kill loses at most the batches in flight. Work is cut into batches of
one size, short ones padded, because a network's bits may change with the batch size but not with the neighbours.
The folder is always written from the cache in key order, each tar as soon as its samples are there: the executor, the
number of workers and the order in which they finish cannot show in a byte. Call under `guard.exclusive`.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from pipeline.engine.account import Account, AccountFile
from pipeline.engine.executors import Executor
from pipeline.engine.failures import Failed
from pipeline.engine.writer import ColumnWriter, WritingAhead, pack, tar_of
from spasemsr.cache import Cache
from spasemsr.data.columns import ALL_SPLITS, Column, Member
from spasemsr.data.patches import Patch, Split
from spasemsr.data.shards import ColumnReader, Place, lacking_keys
from spasemsr.determinism import pin_threads
from spasemsr.errors import UserError
from spasemsr.hashing import fingerprint, sha256_bytes
from spasemsr.progress import Progress, duration

log = logging.getLogger(__name__)

_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Unit:
    """One cache entry; `variant` is None for the members that do not depend on the degradation."""

    patch: Patch
    variant: int | None

    @property
    def order(self) -> tuple[Patch, int]:
        """Key order, and within a key the members without variant first."""
        return self.patch, -1 if self.variant is None else self.variant


@dataclass(frozen=True)
class Sample:
    """What a worker is given: decoded inputs by base name, e.g. {"lr.png": (h, w, 3) uint8}; arrays are read-only."""

    patch: Patch
    variant: int | None
    inputs: dict[str, Any]


class Worker(Protocol):
    """Built once per process; always called with `batch_size` samples, returns {base name: value} for each."""

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Compute a batch."""
        ...


@dataclass(frozen=True)
class InputRef:
    """A member that units of some splits read: of their own variant, or of variant 0 if they have none."""

    column: Column
    member: str = ""
    splits: tuple[Split, ...] = ALL_SPLITS

    @property
    def schema(self) -> Member:
        """The member; by default the column's first."""
        return self.column.member(self.member) if self.member else self.column.members[0]


class SampleError(RuntimeError):
    """A sample that ingest accepted could not be computed: a defect, with key, column, backend and traceback."""


@dataclass(frozen=True, slots=True)
class Task:
    """A unit with the name of its result and where its inputs lie: (index into `inputs`, place, sha256)."""

    name: str
    unit: Unit
    inputs: tuple[tuple[int, Place, str], ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """What travels back for a batch: seconds spent in the backend's own call."""

    backend_seconds: float


def units_of(column: Column, patches: Iterable[Patch], variants: int = 1) -> list[Unit]:
    """The units of a column in key order; training patches have `variants` variants, evaluation patches one."""
    units = []
    for patch in sorted(patches):
        if patch.split in column.splits:
            if column.members_of(None):
                units.append(Unit(patch, None))
            if column.members_of(0):
                units += [Unit(patch, k) for k in range(variants if patch.split == "train" else 1)]
    return units


def build_column(
    column: Column,
    units: Sequence[Unit],
    inputs: Sequence[InputRef],
    make_worker: Callable[[], Worker],
    identity: Any,
    params: Any,
    batch_size: int,
    executor: Executor,
    cache: Cache,
    shards_root: Path,
    seed_inputs: Callable[[Patch, int | None], list[Any]] | None = None,
) -> Account:
    """Build `<shards_root>/<column>`: compute what the cache lacks, then write tars and `column.json`.

    `identity` and `params` (JSON-ready) enter every cache key and `column.json`; `seed_inputs` names what else a unit's
    result depends on. `make_worker` must survive pickling. Raises UserError for inputs that are missing or damaged, a
    killed worker and a full disk; SampleError for a sample that fails. Finished samples are kept in either case.
    """
    common = {"column": column.name, "version": column.version, "identity": identity, "params": params}
    tasks = _plan({**common, "batch_size": batch_size}, units, inputs, shards_root, seed_inputs)
    missing = {task.name for task in tasks if not cache.has(task.name)}
    cached = sum(task.name not in missing for task in tasks)
    account = Account(
        stage=column.stage,
        **common,
        workspace=str(Path.cwd().resolve()),
        executor=executor.name,
        workers=executor.workers,
        total=len(tasks),
        cached=cached,
    )
    counts = f"{len(tasks)} samples · {cached} cached · {len(tasks) - cached} to compute"
    log.info("%-9s %s · backend=%s · workers=%d", column.stage, counts, backend_name(identity), executor.workers)
    book = AccountFile(cache.root, account)
    make = partial(BatchHandler, column, tuple(inputs), make_worker, batch_size, cache, shards_root.absolute())
    writer = ColumnWriter(column, shards_root / column.name, cache)
    had = {task.name for task in tasks} - missing
    try:
        for _ in range(_ROUNDS):
            with WritingAhead(writer, tasks, missing) as ahead:
                lacking = [task for task in tasks if task.name in missing]
                _compute(lacking, batch_size, make, executor, account, book, ahead)
            missing = writer.write(tasks)
            if not missing:
                break
            account.cached -= sum(task.name in missing and task.name in had for task in tasks)
            account.computed -= sum(task.name in missing and task.name not in had for task in tasks)
            had -= missing
            log.warning("%-9s %d cache entries were damaged or deleted: computed again", column.stage, len(missing))
        else:
            raise UserError(
                f"Entries of the cache {cache.root} vanish or change as fast as they are computed.",
                "Stop what deletes them, or set SPASEMSR_CACHE to another folder.",
            )
        account.digest, account.tars = writer.publish(identity, params)
        account.state = "done"
    except (UserError, SampleError):
        account.state = "failed"
        raise
    finally:
        writer.discard()
        book.save(force=True)
    former = book.previous.tars if book.previous else {}
    changed = sum(former.get(tar) != sha256 for tar, sha256 in account.tars.items())
    tars = f"{len(account.tars)} tars, {changed} changed"
    took = duration(account.seconds) + (f" · {account.rate:.3g} samples/s" if account.rate else "")
    log.info("%-9s done · %s · digest %s · %s", column.stage, tars, account.digest[:12], took)
    return account


def _plan(
    common: dict[str, Any],
    units: Sequence[Unit],
    inputs: Sequence[InputRef],
    shards_root: Path,
    seed_inputs: Callable[[Patch, int | None], list[Any]] | None,
) -> list[Task]:
    """Name every unit's result by everything that can change it. Reads and verifies the input columns once."""
    if len(set(units)) != len(units):
        raise ValueError("a unit is there twice")
    readers = {ref.column.name: ColumnReader(shards_root, ref.column) for ref in inputs}
    hashes = {name: reader.hashes() for name, reader in readers.items()}
    prefix = fingerprint(common)
    absent: dict[str, list[Unit]] = {}
    tasks = []
    for unit in sorted(units, key=lambda unit: unit.order):
        patch, found = unit.patch, []
        for index, ref in enumerate(inputs):
            if patch.split not in ref.splits:
                continue
            name = ref.schema.name(unit.variant or 0)
            place = readers[ref.column.name].members(patch.key).get(name)
            if place is None:
                absent.setdefault(ref.column.name, []).append(unit)
            else:
                found.append((index, place, hashes[ref.column.name][patch.key, name]))
        content: dict[str, Any] = {"common": prefix}
        content["inputs"] = {inputs[index].schema.base: sha256 for index, _, sha256 in found}
        if not found:  # the photograph itself
            content["source"] = [patch.sha256, patch.y, patch.x, patch.size]
        if seed_inputs is not None:
            content["seed"] = seed_inputs(patch, unit.variant)
        tasks.append(Task(fingerprint(content), unit, tuple(found)))
    for name, lacking in absent.items():
        split = lacking[0].patch.split
        lacked, all_ = ({unit.patch.key for unit in some if unit.patch.split == split} for some in (lacking, units))
        raise lacking_keys(readers[name].column, split, sorted(lacked), len(all_))
    return tasks


def _compute(
    tasks: Sequence[Task],
    batch_size: int,
    make: Callable[[], "BatchHandler"],
    executor: Executor,
    account: Account,
    book: AccountFile,
    ahead: WritingAhead,
) -> None:
    """Run the tasks through the executor. Raises for the first that fails, after those in flight have finished."""
    if not tasks:
        return
    copies = Counter(task.name for task in tasks)  # equal inputs make equal entries: one computation serves them all
    distinct = {task.name: task for task in tasks}.values()
    failures: list[tuple[tuple[Task, ...], Failed]] = []
    progress: Progress | None = None
    for batch, result in executor.map(make, _batches(distinct, batch_size)):
        count = sum(copies[task.name] for task in batch)
        if isinstance(result, Failed):
            failures.append((batch, result))
            account.failed += count
            account.errors[result.kind] = account.errors.get(result.kind, 0) + count
        else:
            account.computed += count
            ahead.finished(batch)
            account.backend_seconds = round(account.backend_seconds + result.backend_seconds, 6)
            if progress is None:  # from the first result on: loading a model says nothing about the rate
                progress = Progress(account.stage, account.total, account.total - len(tasks) + count, "samples")
            else:
                progress.advance(count)
        book.save()
    if progress is not None:
        progress.close()
    if failures:
        failure = failures[0][1]  # a worker that was killed held several batches, each of which may be to blame
        raise _explain(account, [task for batch, other in failures if other is failure for task in batch], failure)


def _batches(tasks: Iterable[Task], batch_size: int) -> list[tuple[Task, ...]]:
    """Batches of equally large patches, tar by tar, in key order."""
    batches = []
    ordered = sorted(tasks, key=lambda task: (task.unit.patch.size, tar_of(task)))
    for _, group in groupby(ordered, lambda task: task.unit.patch.size):
        alike = tuple(group)
        batches += [alike[start : start + batch_size] for start in range(0, len(alike), batch_size)]
    return batches


def _explain(account: Account, batch: Sequence[Task], failure: Failed) -> Exception:
    """What is raised for a failure: where it happened, in what, and the worker's own words."""
    names = [task.unit.patch.key + ("" if (k := task.unit.variant) is None else f" variant {k}") for task in batch]
    keys = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    where = f"column {account.column!r}, {keys}, backend {backend_name(account.identity)}"
    if failure.remedy:
        return UserError(f"{where}: {failure.what}", failure.remedy)
    return SampleError(f"{where}: {failure.kind}: {failure.what}\n\n{failure.trace}")


def backend_name(identity: Any) -> str:
    """An identity as `kind@version`, several joined by +."""
    if isinstance(identity, dict) and "kind" in identity:
        return f"{identity['kind']}@{identity.get('version', '?')}"
    parts = identity.values() if isinstance(identity, dict) else identity if isinstance(identity, list) else []
    return "+".join(filter(None, (backend_name(part) for part in parts)))


class BatchHandler:
    """What runs in a worker: read the inputs of a batch, compute, store the encoded results in the cache.

    Several threads may call it; one thread of its own does all the computing and never waits while there is a batch.
    """

    def __init__(
        self,
        column: Column,
        inputs: tuple[InputRef, ...],
        make_worker: Callable[[], Worker],
        batch_size: int,
        cache: Cache,
        shards_root: Path,
    ) -> None:
        self._column, self._inputs, self._batch_size, self._cache = column, inputs, batch_size, cache
        self._shards_root = shards_root
        self._file = lru_cache(maxsize=64)(partial(open, mode="rb", buffering=0))
        self._worker = make_worker()
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="computing", initializer=pin_threads)

    def __call__(self, tasks: tuple[Task, ...]) -> Finished:
        """Compute what another process has not stored meanwhile."""
        tasks = tuple(task for task in tasks if not self._cache.has(task.name))
        if not tasks:
            return Finished(0.0)
        samples = [self._load(task) for task in tasks]
        samples += [samples[-1]] * (self._batch_size - len(samples))
        results, seconds = self._computing.submit(self._compute, samples).result()
        if len(results) != len(samples):
            raise ValueError(f"the worker returned {len(results)} results for {len(samples)} samples")
        for task, values in zip(tasks, results, strict=False):  # what is left over is padding
            self._cache.put(task.name, pack(self._column, task.unit.variant, values), self._column.name)
        return Finished(seconds)

    def _compute(self, samples: Sequence[Sample]) -> tuple[list[dict[str, Any]], float]:
        start = time.perf_counter()
        results = self._worker(samples)
        return results, time.perf_counter() - start

    def _load(self, task: Task) -> Sample:
        inputs = {}
        for index, place, sha256 in task.inputs:
            ref = self._inputs[index]
            path = self._shards_root / ref.column.name / place.tar
            try:
                file = self._file(path)
                data = os.pread(file.fileno(), place.size, place.offset)
            except OSError as error:
                raise UserError(f"{path} cannot be read any more: {error.strerror}.", ref.column.remedy) from None
            if sha256_bytes(data) != sha256:
                raise UserError(f"{path} changed while it was read.", ref.column.remedy)
            inputs[ref.schema.base] = ref.schema.decode(data)
        return Sample(task.unit.patch, task.unit.variant, inputs)
