"""What runs in a worker process: read the inputs of a batch, compute, store the encoded results in the cache."""

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.engine.plan import Task
from pipeline.engine.writer import pack
from spasemsr.cache import Cache
from spasemsr.data.job import ColumnJob, Sample
from spasemsr.determinism import pin_threads
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_bytes

_LIBRARIES = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "torch": "torch",
    "transformers": "transformers",
    "diffusers": "diffusers",
    "spandrel": "spandrel",
}


@lru_cache(maxsize=1)
def _versions(imported: frozenset[str]) -> str:
    return ", ".join(f"{package} {version(package)}" for module, package in _LIBRARIES.items() if module in imported)


def made_with() -> str:
    """The device that computes in this process, and the versions of the libraries that it has imported for that."""
    device = f"CPU {platform.machine()}"
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        device = torch.cuda.get_device_name()
    return f"{device}: {_versions(frozenset(_LIBRARIES.keys() & sys.modules.keys()))}"


@dataclass(frozen=True, slots=True)
class Finished:
    """What travels back for a batch: seconds spent in the backend's own call, on which device and by which versions."""

    backend_seconds: float
    made_with: str = ""


def _nothing(sample: Sample) -> None:
    """What a worker without `prepare` does before a batch."""


class BatchHandler:
    """Computes batches of a job's tasks; what travels to it and back is small.

    Several threads may call it; one thread of its own does all the computing and never waits while there is a batch.
    """

    def __init__(self, job: ColumnJob, cache: Cache, shards_root: Path) -> None:
        self._column, self._inputs, self._batch_size = job.column, job.inputs, job.batch_size
        self._cache, self._shards_root = cache, shards_root
        self._file = lru_cache(maxsize=64)(partial(open, mode="rb", buffering=0))
        self._worker = job.worker()
        self._prepare: Callable[[Sample], None] = getattr(self._worker, "prepare", _nothing)
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="computing", initializer=pin_threads)

    def __call__(self, tasks: tuple[Task, ...]) -> Finished:
        """Compute what another process has not stored meanwhile; short batches are padded to the job's size.

        A network's bits may change with the batch size, but not with the neighbours in a batch.
        """
        tasks = tuple(task for task in tasks if not self._cache.has(task.name))
        if not tasks:
            return Finished(0.0)
        samples = [self._load(task) for task in tasks]
        for sample in samples:
            self._prepare(sample)
        samples += [samples[-1]] * (self._batch_size - len(samples))
        results, seconds = self._computing.submit(self._compute, samples).result()
        if len(results) != len(samples):
            raise ValueError(f"the worker returned {len(results)} results for {len(samples)} samples")
        for task, values in zip(tasks, results, strict=False):  # what is left over is padding
            self._cache.put(task.name, pack(self._column, task.unit.variant, values), self._column.name)
        return Finished(seconds, made_with())

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
