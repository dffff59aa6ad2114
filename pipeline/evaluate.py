"""Stage evaluate: a trained method restores the evaluation split and is scored beside bicubic and the restorer.

Restored images are kept in the sample cache by everything they are made of, so a killed evaluation goes on where it
was, and scoring with another metric restores nothing again.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipeline import layout
from pipeline.isolation import pin_threads
from spasemsr.assembly import build, read_model_config
from spasemsr.cache import Cache
from spasemsr.config import MethodName, Params
from spasemsr.data.columns import CAPTION, HR, LR, OBJECTS, RESTORED
from spasemsr.data.dataset import Batch, Dataset
from spasemsr.data.shards import ColumnReader
from spasemsr.evaluation.metrics import Metric, build_metrics
from spasemsr.evaluation.scores import Row, ScoreTable, score_image, write_metrics, write_per_image
from spasemsr.hashing import fingerprint, sha256_file
from spasemsr.methods.base import Method, Noise
from spasemsr.methods.bicubic import Bicubic
from spasemsr.modelfile import WEIGHTS, load_model
from spasemsr.progress import Progress

log = logging.getLogger(__name__)

SPLIT = "val"
VERSION = 1  # of restored images: bump it when the same weights and inputs give other pixels
ImageU8 = npt.NDArray[np.uint8]


def run(params: Params, method_name: MethodName) -> None:
    """Restore and score every evaluation image; pictures, per-image scores and their means are written together."""
    pin_threads()
    spec = params.active.evaluate
    folder = layout.model_folder(method_name)
    config = read_model_config(folder)
    method = build(config, spec.sample)
    load_model(folder, method)
    dataset = Dataset(layout.SHARDS, [LR, OBJECTS, CAPTION], SPLIT)
    readers = {column.name: ColumnReader(layout.SHARDS, column) for column in (HR, LR, RESTORED)}
    restore = CachedRestoration(method, Cache(), params.seed, [sha256_file(folder / WEIGHTS), spec.sample.plain()])
    bicubic, metrics = Bicubic(config.scale), build_metrics(spec.metrics)

    images = layout.images_folder(method_name)
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    progress, rows = Progress("evaluate", len(dataset.keys), unit="images"), []
    for key in dataset.keys:
        hr = readers[HR.name].read(key, "hr.png")
        batch = dataset.batch([key])
        outputs = {
            method_name: restore(batch),
            "bicubic": to_pixels(bicubic.restore(batch, Noise(params.seed, 0))),
            "restorer": readers[RESTORED.name].read(key, "restored.0.png"),
        }
        for name, picture in {**outputs, "lr": readers[LR.name].read(key, "lr.0.png"), "hr": hr}.items():
            write_png(images / f"{key}.{name}.png", picture)
        rows += [score_image(SPLIT, key, name, picture, hr, metrics) for name, picture in outputs.items()]
        rows += _ground_truth(key, hr, metrics)
        progress.advance()
    progress.close()
    table = ScoreTable(SPLIT, spec.metrics, (*outputs, "hr"), tuple(rows))
    scores = layout.scores_folder(method_name)
    write_per_image(scores / "per_image.csv", [table])
    write_metrics(scores / "metrics.json", [table])
    for name in table.methods:
        means = (f"{metric} {table.mean(name, metric):.4f}" for metric in spec.metrics if table.has(name, metric))
        log.info("evaluate  %-9s %s", name, "  ".join(means))


class CachedRestoration:
    """Batch of one -> (H, W, 3) uint8, from the cache where the same weights restored the same sample before."""

    def __init__(self, method: Method, cache: Cache, seed: int, made_of: list[Any]) -> None:
        self._method, self._cache, self._seed, self._made_of = method, cache, seed, made_of

    def __call__(self, batch: Batch) -> ImageU8:
        """Restore one sample."""
        (objects,), (caption,) = batch.objects, batch.captions
        told = [objects.tags, objects.boxes.tolist(), caption, fingerprint(batch.lr.flatten().tolist())]
        name = fingerprint(["restored image", VERSION, self._made_of, self._seed, batch.keys, told])
        stored = self._cache.get(name)
        if stored is not None:
            return cv2.cvtColor(cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        with torch.inference_mode():
            picture = to_pixels(self._method.restore(batch, Noise(self._seed, 0)))
        self._cache.put(name, png_bytes(picture), "evaluate")
        return picture


def _ground_truth(key: str, hr: ImageU8, metrics: list[Metric]) -> list[Row]:
    """The level of the ground truth itself, for metrics that need no reference."""
    alone = [metric for metric in metrics if not metric.needs_reference]
    return [score_image(SPLIT, key, "hr", hr, hr, alone)] if alone else []


def to_pixels(images_13HW: torch.Tensor) -> ImageU8:
    """(1, 3, H, W) in [0, 1] -> (H, W, 3) uint8, rounded."""
    (image,) = (images_13HW.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(image)


def png_bytes(picture: ImageU8) -> bytes:
    """An RGB picture as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def write_png(path: Path, picture: ImageU8) -> None:
    """Write an RGB picture."""
    path.write_bytes(png_bytes(picture))
