"""Training samples per second of our join against a plain `webdataset` pipeline, at the record sizes of the paper.

    python benchmarks/reader.py [--samples 256] [--batch 8] [--rounds 3]

A sample is lr 128 px in two variants with their parameters and captions, objects with masks of 512 px, latents
(8, 64, 64) and SAM features (256, 64, 64) float16. The reference is what one would write without this project: all
members of a sample in one merged tar, `webdataset.WebDataset` in order, a shuffle buffer, cv2 and NumPy decoding of
the very members that our batch holds (variant 0), stacking into the same float32 tensors. Both sides get the same two
cores: two DataLoader workers for the reference, two threads for ours, whose order is a full random one. Each round
measures both, after one that warms the page cache.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import webdataset
from engine import Crop, patches_of
from torch.utils.data import DataLoader

from pipeline.engine.build import build_column
from pipeline.engine.executors import Serial
from spasemsr.cache import Cache
from spasemsr.data.columns import CAPTION, LATENTS, LR, OBJECTS, Column
from spasemsr.data.dataset import Dataset
from spasemsr.data.job import ColumnJob, Sample
from spasemsr.data.order import SampleOrder
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR

COLUMNS = [LR, OBJECTS, CAPTION, LATENTS, FEATURES_SPASEMSR]


class Fill:
    """Values of the paper's sizes; pictures are photographs, arrays Gaussian."""

    def __init__(self, column: Column) -> None:
        self._column, self._crop = column, Crop()

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        return [self._values(sample) for sample in samples]

    def _values(self, sample: Sample) -> dict[str, Any]:
        number = int(sample.patch.key[:8], 16)
        rng = np.random.default_rng(number)
        hr = self._crop([sample])[0]["hr.png"]
        makers = {
            "lr.png": lambda: np.ascontiguousarray(hr[(sample.variant or 0) :: 4, ::4]),
            "degradation.json": lambda: {"blur": {"sigma": [1.5] * 20}, "noise": {"strength": 3.0}, "jpeg": 60},
            "objects.json": lambda: {
                "tags": ["tree", "house", "sky", "water", "person"],
                "boxes": [[0.1, 0.1, 0.5, 0.5]] * 5,
                "scores": [0.9, 0.8, 0.7, 0.6, 0.5],
                "source": "hr",
            },
            "masks.png": lambda: hr[..., 0] // 64,
            "caption.json": lambda: {"text": "The image is blurry, noisy and compressed. " * 3, "prompt": "Describe."},
            "moments.npy": lambda: rng.standard_normal((8, 64, 64)).astype(np.float16),
            "sam.npy": lambda: rng.standard_normal((256, 64, 64)).astype(np.float16),
        }
        return {member.base: makers[member.base]() for member in self._column.members_of(sample.variant)}


def fill(folder: Path, column: Column, count: int) -> None:
    job = ColumnJob(
        column,
        inputs=(),
        worker=partial(Fill, column),
        identity=partial(dict, kind="fill", version=1),
        params={},
        variants=2,
        seed_inputs=lambda patch, variant: [variant],
    )
    build_column(job, patches_of(range(count)), Serial(), Cache(folder / "cache"), folder / "shards")


def merge(folder: Path) -> Path:
    """One tar with all members of each sample, as `webdataset.TarWriter` users have."""
    members: dict[str, bytes] = {}
    for path in sorted((folder / "shards").rglob("*.tar")):
        with tarfile.open(path) as tar:
            members |= {info.name: tar.extractfile(info).read() for info in tar.getmembers()}
    merged = folder / "merged.tar"
    with tarfile.open(merged, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(members):
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            tar.addfile(info, io.BytesIO(members[name]))
    return merged


def decode(sample: dict[str, Any]) -> dict[str, Any]:
    """The members our batch holds."""
    lr = cv2.cvtColor(cv2.imdecode(np.frombuffer(sample["lr.0.png"], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    objects, caption = json.loads(sample["objects.json"]), json.loads(sample["caption.0.json"])
    boxes = np.asarray(objects["boxes"], np.float32)
    arrays = {name: np.load(io.BytesIO(sample[f"{name}.npy"]), allow_pickle=False) for name in ("moments", "sam")}
    return {"key": sample["__key__"], "lr": lr, "objects": (objects["tags"], boxes), "text": caption["text"], **arrays}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    lr = torch.from_numpy(np.stack([sample["lr"] for sample in samples]))
    batch = {name: [sample[name] for sample in samples] for name in ("key", "objects", "text")}
    for name in ("moments", "sam"):
        batch[name] = torch.from_numpy(np.stack([sample[name] for sample in samples])).float()
    return {**batch, "lr": lr.permute(0, 3, 1, 2).contiguous().float().div_(255)}


def theirs(tar: Path, count: int, batch: int, workers: int) -> float:
    """Samples per second of the plain pipeline over one epoch; workers take turns at samples, as there is one tar."""
    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList([str(tar)]),
        webdataset.tarfile_to_samples(),
        _turns if workers else None,
        webdataset.shuffle(32, initial=32),
        webdataset.map(decode),
        webdataset.batched(batch, collation_fn=collate),
    )
    start, seen = time.perf_counter(), 0
    for item in DataLoader(pipeline, batch_size=None, num_workers=workers):
        seen += len(item["key"])
    assert seen == count
    return count / (time.perf_counter() - start)


def _turns(samples: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    info = torch.utils.data.get_worker_info()
    for number, sample in enumerate(samples):
        if number % info.num_workers == info.id:
            yield sample


def ours(dataset: Dataset, count: int, batch: int, threads: int, epoch: int) -> float:
    """Samples per second of `Dataset.batch` over one epoch, batches read ahead by some threads."""
    order = SampleOrder(dataset.keys_by_shard, epoch, batch)
    start, seen = time.perf_counter(), 0
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Any] = deque()
        for step in range(count // batch):
            ahead.append(pool.submit(dataset.batch, order.at(step), epoch))
            if len(ahead) > threads:
                seen += len(ahead.popleft().result().keys)
        seen += sum(len(item.result().keys) for item in ahead)
    assert seen == count // batch * batch
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    count = args.samples // args.batch * args.batch
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for column in COLUMNS:
            fill(folder, column, count)
        merged = merge(folder)
        opened = time.perf_counter()
        dataset = Dataset(folder / "shards", COLUMNS, "train")
        opened, size = time.perf_counter() - opened, merged.stat().st_size / count / 1e6
        print(f"{count} samples of {size:.2f} MB; our join opens in {opened:.3f} s", flush=True)
        for cores, workers in ((1, 0), (2, 2)):
            rates = [
                (ours(dataset, count, args.batch, cores, r), theirs(merged, count, args.batch, workers))
                for r in range(args.rounds + 1)
            ][1:]
            mine, other = (float(np.median(values)) for values in zip(*rates, strict=True))
            rates = f"ours {mine:7.1f} samples/s  webdataset {other:7.1f} samples/s"
            print(f"{cores} core(s)  {rates}  ratio {mine / other:.2f}x", flush=True)


if __name__ == "__main__":
    main()
