"""What the data engine costs beside a backend of 50 ms per sample, at the record sizes of the paper.

    python benchmarks/engine.py [--samples 200] [--milliseconds 50] [--workers 2]

The backend sleeps, as the host does while a GPU works, and returns what SAM ViT-H would: (256, 64, 64) float16, 2 MiB.
Its input is hr at 512 px. Everything else is the engine's: planning, reading and checking inputs, decoding PNG,
encoding, the cache, the tars and their hashes. The reference is the sum of the backend's own calls, measured in the
same run; overhead = (wall - reference) / reference. With n workers the reference is an n-th of the sum. Their start
(spawned interpreters and their imports, and Ray's own services) is paid once a stage, whatever its length: it is
measured by a run of one sample a worker and printed apart.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.engine.account import Account
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor, Processes, Serial
from pipeline.engine.ray_data import RayData
from spasemsr.cache import Cache
from spasemsr.data.columns import HR, Column
from spasemsr.data.job import ColumnJob, InputRef, Sample
from spasemsr.data.patches import Patch, bucket_of, make_key
from spasemsr.hashing import sha256_bytes
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR

SIZE = 512


class Crop:
    """hr: crops of the photographs that ship inside scikit-image, each at an offset of its own."""

    def __init__(self) -> None:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
        names = ("retina.jpg", "hubble_deep_field.jpg", "astronaut.png")
        self._images = [np.asarray(Image.open(folder / name).convert("RGB")) for name in names]

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        return [{"hr.png": self._crop(int(sample.patch.key[:8], 16))} for sample in samples]

    def _crop(self, number: int) -> np.ndarray:
        image = self._images[number % len(self._images)]
        y, x = number // 7 % image.shape[0], number // 11 % image.shape[1]
        return np.ascontiguousarray(np.roll(image, (-y, -x), (0, 1))[:SIZE, :SIZE])


class Sleeper:
    """The backend."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._features = np.random.default_rng(0).standard_normal((256, 64, 64)).astype(np.float16)

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        time.sleep(self._seconds * len(samples))
        return [{"sam.npy": self._of(sample.inputs["hr.png"])} for sample in samples]

    def _of(self, hr: np.ndarray) -> np.ndarray:
        features = self._features.copy()
        features[:3, 0] = hr[0, :64].T
        return features


def patches_of(images: range) -> list[Patch]:
    hashes = [sha256_bytes(str(image).encode()) for image in images]
    return [Patch(make_key(sha, 0, 0), "train", bucket_of(sha, 8), "folder", "", sha, 0, 0, SIZE) for sha in hashes]


def build(column: Column, patches: list[Patch], worker: Any, executor: Executor, folder: Path, kind: str) -> Account:
    inputs = () if column is HR else (InputRef(HR),)
    job = ColumnJob(column, inputs, worker, identity=partial(dict, kind=kind, version=1), params={})
    return build_column(job, patches, executor, Cache(folder / "cache"), folder / "shards")


def measure(name: str, count: int, seconds: float, executor: Executor, folder: Path) -> dict[str, Any]:
    patches, begin = patches_of(range(count)), 0.0
    if executor.workers > 1:
        start = time.perf_counter()
        first = build(
            FEATURES_SPASEMSR, patches[: executor.workers], partial(Sleeper, seconds), executor, folder, f"start {name}"
        )
        begin = time.perf_counter() - start - first.backend_seconds / executor.workers
    start, busy = time.perf_counter(), time.process_time()
    account = build(FEATURES_SPASEMSR, patches, partial(Sleeper, seconds), executor, folder, name)
    wall, cpu = time.perf_counter() - start, (time.process_time() - busy) / count * 1000
    reference = account.backend_seconds / executor.workers
    ratio = (wall - begin - reference) / reference
    print(
        f"{name:<12} {count} samples  wall {wall:6.2f} s  start {begin:5.2f} s  backend {reference:6.2f} s  "
        f"overhead {ratio:6.1%}  CPU here {cpu:4.1f} ms a sample",
        flush=True,
    )
    return {"name": name, "wall": wall, "start": begin, "backend": reference, "overhead": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--milliseconds", type=float, default=50.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="Write the numbers here too.")
    args = parser.parse_args()
    seconds = args.milliseconds / 1000
    with tempfile.TemporaryDirectory() as name:
        folder, tenth = Path(name), args.samples // 10
        build(HR, patches_of(range(args.samples + tenth)), Crop, Serial(), folder, "crop")
        results = [measure("serial", args.samples, seconds, Serial(), folder)]
        if args.workers > 1:
            for executor in (Processes(args.workers), RayData(args.workers)):
                results.append(measure(f"{executor.name}-{args.workers}", args.samples, seconds, executor, folder))
        for label, count in (("nothing new", args.samples), ("10 % more", args.samples + tenth)):
            start = time.perf_counter()
            account = build(
                FEATURES_SPASEMSR, patches_of(range(count)), partial(Sleeper, seconds), Serial(), folder, "serial"
            )
            wall = time.perf_counter() - start
            share = wall / results[0]["wall"]
            print(
                f"{label:<12} {account.computed} computed  wall {wall:6.2f} s  {share:6.1%} of the first run",
                flush=True,
            )
            results.append({"name": label, "wall": wall, "computed": account.computed})
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    import engine  # workers of Ray look for what they are sent in the module of this name, not in __main__

    engine.main()
