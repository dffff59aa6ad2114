"""The driver that every column stage shares: plan, cache hits, compute the misses, write the folder of tars.

A kill loses at most the batches in flight. The folder is always written from the cache in key order, each tar as soon
as its samples are there: the executor, the number of workers and the order in which they finish cannot show in a byte.
Call it while holding `lock.exclusive`, as the commands do.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from pipeline.engine.account import Account, AccountFile, backend_name, inherited
from pipeline.engine.executors import Executor
from pipeline.engine.failures import Failed
from pipeline.engine.handler import BatchHandler
from pipeline.engine.plan import Task, batches_of, plan_tasks
from pipeline.engine.units import units_of
from pipeline.engine.writer import ColumnWriter, WritingAhead
from spasemsr.cache import Cache
from spasemsr.data.job import ColumnJob
from spasemsr.data.patches import Patch
from spasemsr.errors import UserError
from spasemsr.mounts import mount_of
from spasemsr.progress import Progress, duration

log = logging.getLogger(__name__)

_ROUNDS = 4
_PATIENCE = (1, 4, 15, 45)  # seconds; NFS remembers for 60 at most that a name was not there (acdirmax)


class SampleError(RuntimeError):
    """A sample that ingest accepted could not be computed: a defect, with key, column, backend and traceback."""


def build_column(
    job: ColumnJob, patches: Iterable[Patch], executor: Executor, cache: Cache, shards_root: Path
) -> Account:
    """Build `<shards_root>/<column>` of these patches: compute what the cache lacks, then write tars and `column.json`.

    Raises UserError for inputs that are missing or damaged, a killed worker and a full disk; SampleError for a sample
    that fails. Finished samples are kept in either case.
    """
    column, identity = job.column, job.identity()
    tasks = plan_tasks(job, identity, units_of(column, patches, job.variants), shards_root)
    names = {task.name for task in tasks}
    missing = names - cache.present(names)
    cached = sum(task.name not in missing for task in tasks)
    account = Account(
        stage=column.stage,
        column=column.name,
        version=column.version,
        identity=identity,
        params=job.params,
        workspace=str(Path.cwd().resolve()),
        executor=executor.name,
        workers=executor.workers,
        total=len(tasks),
        cached=cached,
    )
    counts = f"{len(tasks)} samples · {cached} cached · {len(tasks) - cached} to compute"
    log.info("%-9s %s · backend=%s · workers=%d", column.stage, counts, backend_name(identity), executor.workers)
    file = AccountFile(cache.root, account)
    account.made_with = inherited(account, file.previous)
    make = partial(BatchHandler, job, cache, shards_root.absolute())
    writer = ColumnWriter(column, shards_root / column.name, cache)
    held = names - missing
    try:
        for _ in range(_ROUNDS):
            with WritingAhead(writer, tasks, missing) as ahead:
                lacking = [task for task in tasks if task.name in missing]
                _compute(lacking, job.batch_size, make, executor, account, file, ahead)
            missing = writer.write(tasks)
            if missing and mount_of(cache.root).shared:
                missing = _waited_for(missing, column.stage, writer, tasks, cache)
            if not missing:
                break
            account.cached -= sum(task.name in missing and task.name in held for task in tasks)
            account.computed -= sum(task.name in missing and task.name not in held for task in tasks)
            held -= missing
            log.warning("%-9s %d cache entries were damaged or deleted: computed again", column.stage, len(missing))
        else:
            raise UserError(
                f"Entries of the cache {cache.root} vanish or change as fast as they are computed.",
                "Stop what deletes them, or set SPASEMSR_CACHE to another folder.",
            )
        account.digest, account.tars = writer.publish(identity, job.params)
        account.state = "done"
    except (UserError, SampleError):
        account.state = "failed"
        raise
    finally:
        writer.discard()
        file.save(force=True)
    if len(account.made_with) > 1:
        several = "; ".join(account.made_with)
        log.warning(
            "%-9s samples of several devices or versions, which may differ by rounding: %s", column.stage, several
        )
    former = file.previous.tars if file.previous else {}
    changed = sum(former.get(tar) != sha256 for tar, sha256 in account.tars.items())
    tars = f"{len(account.tars)} tars, {changed} changed"
    took = duration(account.seconds) + (f" · {account.rate:.3g} samples/s" if account.rate else "")
    log.info("%-9s done · %s · digest %s · %s", column.stage, tars, account.digest[:12], took)
    return account


def _waited_for(missing: set[str], stage: str, writer: ColumnWriter, tasks: Sequence[Task], cache: Cache) -> set[str]:
    """What is still missing after shared storage was given time to show what other machines have written."""
    log.warning("%-9s %d samples cannot be seen yet on shared storage: waits", stage, len(missing))
    for seconds in _PATIENCE:
        time.sleep(seconds)
        if missing <= cache.present(missing):  # listed first: asking by name would have their absence remembered
            missing = writer.write(tasks)
        if not missing:
            break
    return missing


def _compute(
    tasks: Sequence[Task],
    batch_size: int,
    make: Callable[[], BatchHandler],
    executor: Executor,
    account: Account,
    file: AccountFile,
    ahead: WritingAhead,
) -> None:
    """Run the tasks through the executor. Raises for the first that fails, after those in flight have finished."""
    if not tasks:
        return
    copies = Counter(task.name for task in tasks)  # equal inputs make equal entries: one computation serves them all
    distinct = {task.name: task for task in tasks}.values()
    failures: list[tuple[tuple[Task, ...], Failed]] = []
    progress: Progress | None = None
    for batch, result in executor.map(make, batches_of(distinct, batch_size)):
        count = sum(copies[task.name] for task in batch)
        if isinstance(result, Failed):
            failures.append((batch, result))
            account.failed += count
            account.errors[result.kind] = account.errors.get(result.kind, 0) + count
        else:
            account.computed += count
            ahead.finished(batch)
            if result.made_with and result.made_with not in account.made_with:
                account.made_with = sorted({*account.made_with, result.made_with})
            account.backend_seconds = round(account.backend_seconds + result.backend_seconds, 6)
            if progress is None:  # from the first result on: loading a model says nothing about the rate
                progress = Progress(account.stage, account.total, account.total - len(tasks) + count, "samples")
            else:
                progress.advance(count)
        file.save()
    if progress is not None:
        progress.close()
    if failures:
        failure = failures[0][1]  # a worker that was killed held several batches, each of which may be to blame
        raise _explain(account, [task for batch, other in failures if other is failure for task in batch], failure)


def _explain(account: Account, batch: Sequence[Task], failure: Failed) -> Exception:
    """What is raised for a failure: where it happened, in what, and the worker's own words."""
    names = [task.unit.patch.key + ("" if (k := task.unit.variant) is None else f" variant {k}") for task in batch]
    keys = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    where = f"column {account.column!r}, {keys}, backend {backend_name(account.identity)}"
    if failure.remedy:
        return UserError(f"{where}: {failure.what}", failure.remedy)
    return SampleError(f"{where}: {failure.kind}: {failure.what}\n\n{failure.trace}")
