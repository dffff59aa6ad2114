"""A three-column pipeline of NumPy workers for tests of the data engine: hr -> lr (two variants) -> note (of both).

Importable by spawned processes and Ray actors. Run as a program it builds `note`, for tests that kill it.
"""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.engine.account import Account
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor, Processes, Serial
from spasemsr.cache import Cache
from spasemsr.data.columns import HR, LR, Column, Member
from spasemsr.data.job import ColumnJob, InputRef, Sample, Worker
from spasemsr.data.patches import Patch, bucket_of, make_key
from spasemsr.hashing import sha256_bytes

BUCKETS = 4
SIZE = 16
NOTE = Column("features/note", 3, "note", (Member("total.npy", (None,), "float16"), Member("note.json")))


def patches_of(images: Sequence[str], per_image: int = 2) -> list[Patch]:
    """Patches of images that are nothing but names; every third image is for validation."""
    patches = []
    for image in images:
        sha256 = sha256_bytes(image.encode())
        split = "val" if int(image.rpartition("-")[2]) % 3 == 0 else "train"
        for x in range(per_image):
            key, bucket = make_key(sha256, 0, x), bucket_of(sha256, BUCKETS)
            patches.append(Patch(key, split, bucket, "folder", image, sha256, 0, x, SIZE))
    return sorted(patches)


def photographs(count: int, start: int = 0) -> list[str]:
    return [f"image-{i}" for i in range(start, start + count)]


class PaintWorker:
    """hr: pixels drawn from the patch's key."""

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        draw = [int.from_bytes(hashlib.sha256(s.patch.key.encode()).digest()[:8], "big") for s in samples]
        return [{"hr.png": np.random.default_rng(d).integers(0, 256, (SIZE, SIZE, 3), np.uint8)} for d in draw]


class ShrinkWorker:
    """lr: every fourth pixel plus the variant; its bits depend on the batch size, as a convolution's do."""

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        return [
            {
                "lr.png": (s.inputs["hr.png"][::4, ::4].astype(np.int64) + s.variant + len(samples)).astype(np.uint8),
                "degradation.json": {"variant": s.variant},
            }
            for s in samples
        ]


class NoteWorker:
    """note: sums over the image; can be slow, write down what it computes, fail, or be killed at a key."""

    def __init__(self, seconds: float = 0.0, diary: Path | None = None, fail_at: str = "", die_at: str = "") -> None:
        self._seconds, self._diary, self._fail_at, self._die_at = seconds, diary, fail_at, die_at

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        for key in dict.fromkeys(sample.patch.key for sample in samples):
            if key == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if key == self._fail_at:
                raise ArithmeticError("this sample is cursed")
            time.sleep(self._seconds)
            if self._diary is not None:
                with self._diary.open("a") as file:
                    file.write(f"{key} {os.getpid()} {len(samples)}\n")
        return [self._note(sample) for sample in samples]

    def _note(self, sample: Sample) -> dict[str, Any]:
        ((name, image),) = sample.inputs.items()
        total = image.astype(np.float64).mean(axis=(0, 1)).astype(np.float16)
        return {"total.npy": total, "note.json": {"source": name, "max": int(image.max())}}


def toy_job(
    column: Column,
    worker: Callable[[], Worker],
    inputs: tuple[InputRef, ...] = (),
    params: Any = None,
    kind: str = "toy",
    version: int = 1,
    **rest: Any,
) -> ColumnJob:
    """A job of two variants whose identity is `kind` and `version`."""
    identity = partial(dict, kind=kind, version=version)
    return ColumnJob(column, inputs, worker, identity, params or {}, **{"variants": 2, **rest})


class Toy:
    """One workspace with its cache: builds the three columns."""

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.shards = folder / "shards"
        self.cache = Cache(cache or folder / "cache")

    def hr(self, patches: Sequence[Patch], executor: Executor | None = None) -> Account:
        return self.build(toy_job(HR, PaintWorker, params={"size": SIZE}), patches, executor)

    def lr(self, patches: Sequence[Patch], executor: Executor | None = None, batch_size: int = 1) -> Account:
        inputs = (InputRef(HR),)
        job = toy_job(LR, ShrinkWorker, inputs, {"size": SIZE}, batch_size=batch_size, seed_inputs=_seed)
        return self.build(job, patches, executor)

    def note(
        self,
        patches: Sequence[Patch],
        executor: Executor | None = None,
        batch_size: int = 3,
        version: int = 1,
        make: Callable[[], Worker] | None = None,
        **worker: Any,
    ) -> Account:
        """Reads hr for training patches and lr for validation patches, as `ground` does with restored."""
        inputs = (InputRef(HR, splits=("train",)), InputRef(LR, splits=("val",)))
        make, size = make or partial(NoteWorker, **worker), {"size": SIZE}
        job = toy_job(NOTE, make, inputs, size, kind="note", version=version, batch_size=batch_size)
        return self.build(job, patches, executor)

    def build(self, job: ColumnJob, patches: Sequence[Patch], executor: Executor | None = None) -> Account:
        """Any column, into this workspace."""
        return build_column(job, patches, executor or Serial(), self.cache, self.shards)

    def tree(self) -> dict[str, bytes]:
        files = (path for path in sorted(self.shards.rglob("*")) if path.is_file())
        return {path.relative_to(self.shards).as_posix(): path.read_bytes() for path in files}


def _seed(patch: Patch, variant: int | None) -> list[Any]:
    return [7, patch.key, variant]


def diary(path: Path) -> list[str]:
    """Keys that were computed, in order."""
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def entries(toy: Toy) -> int:
    """Whole entries of its cache."""
    return sum(1 for path in toy.cache.root.glob("??/*") if not path.name.endswith(".partial"))


if __name__ == "__main__":
    folder, images, workers, seconds = sys.argv[1:]
    executor = Serial() if workers == "1" else Processes(int(workers))
    Toy(Path(folder)).note(patches_of(photographs(int(images))), executor, batch_size=1, seconds=float(seconds))
