"""Which result each unit of a column has: its name in the cache, where its inputs lie, the tar it goes to.

A result's name is a hash of everything that can change its bytes, so a sample is never computed twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.engine.units import Unit
from spasemsr.data.job import ColumnJob
from spasemsr.data.patches import tar_name
from spasemsr.data.shards import ColumnReader, Place, lacking_keys
from spasemsr.hashing import fingerprint


@dataclass(frozen=True, slots=True)
class Task:
    """A unit with the name of its result and where its inputs lie: (index into `job.inputs`, place, sha256)."""

    name: str
    unit: Unit
    inputs: tuple[tuple[int, Place, str], ...]

    @property
    def tar(self) -> str:
        """The tar that its result goes to."""
        return tar_name(self.unit.patch.split, self.unit.patch.bucket)


def plan_tasks(job: ColumnJob, identity: Any, units: Sequence[Unit], shards_root: Path) -> list[Task]:
    """Name every unit's result, in key order. Reads and verifies the input columns once.

    Raises UserError for an input column that is missing, damaged or lacks a key.
    """
    if len(set(units)) != len(units):
        raise ValueError("a unit is there twice")
    readers = {ref.column.name: ColumnReader(shards_root, ref.column) for ref in job.inputs}
    hashes = {name: reader.hashes() for name, reader in readers.items()}
    common = fingerprint(
        {
            "column": job.column.name,
            "version": job.column.version,
            "identity": identity,
            "params": _without_batch_sizes(job.params),
        }
    )
    absent: dict[str, list[Unit]] = {}
    tasks = []
    for unit in sorted(units, key=lambda unit: unit.order):
        patch, found = unit.patch, []
        for index, ref in enumerate(job.inputs):
            if patch.split not in ref.splits:
                continue
            name = ref.schema.name(unit.variant or 0)
            place = readers[ref.column.name].members(patch.key).get(name)
            if place is None:
                absent.setdefault(ref.column.name, []).append(unit)
            else:
                found.append((index, place, hashes[ref.column.name][patch.key, name]))
        content: dict[str, Any] = {"common": common}
        content["inputs"] = {job.inputs[index].schema.base: sha256 for index, _, sha256 in found}
        if not found:  # the photograph itself
            content["source"] = [patch.sha256, patch.y, patch.x, patch.size]
        if job.seed_inputs is not None:
            content["seed"] = job.seed_inputs(patch, unit.variant)
        tasks.append(Task(fingerprint(content), unit, tuple(found)))
    for name, lacking in absent.items():
        split = lacking[0].patch.split
        lacked, all_ = ({unit.patch.key for unit in some if unit.patch.split == split} for some in (lacking, units))
        raise lacking_keys(readers[name].column, split, sorted(lacked), len(all_))
    return tasks


def _without_batch_sizes(params: Any) -> Any:
    if not isinstance(params, dict):
        return params
    return {name: _without_batch_sizes(value) for name, value in params.items() if name != "batch_size"}


def tasks_by_tar(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Tasks by the tar their results go to, each in the order of the tar."""
    ordered = sorted(tasks, key=lambda task: (task.tar, task.unit.order))
    return {tar: list(group) for tar, group in groupby(ordered, lambda task: task.tar)}


def batches_of(tasks: Iterable[Task], batch_size: int) -> list[tuple[Task, ...]]:
    """Batches of equally large patches, tar by tar, in key order; the last of each size may be short."""
    batches = []
    ordered = sorted(tasks, key=lambda task: (task.unit.patch.size, task.tar))
    for _, group in groupby(ordered, lambda task: task.unit.patch.size):
        alike = tuple(group)
        batches += [alike[start : start + batch_size] for start in range(0, len(alike), batch_size)]
    return batches
