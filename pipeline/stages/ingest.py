"""Stage ingest: photographs -> data/patches.jsonl, data/rejects.jsonl and the column hr."""

import json
import logging
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data import survey
from spasemsr.data.columns import HR
from spasemsr.data.degradation import sharpen
from spasemsr.data.job import ColumnJob, Sample, Typical
from spasemsr.data.patches import Patch, write_patches
from spasemsr.data.sources import Sources, missing_from_packages
from spasemsr.errors import RejectedSample, UserError
from spasemsr.images.flat import decode
from spasemsr.progress import Progress

log = logging.getLogger(__name__)


def job(params: Params) -> ColumnJob:
    """Cut every patch out of its photograph."""
    spec = params.active.data
    sources = Sources.of(spec, params.photographs)
    sharpened = params.degradation.usm_target and spec.scenes is None  # a scene is its own target
    return ColumnJob(
        HR,
        inputs=(),
        worker=partial(CropWorker, sources, spec.max_bytes, spec.max_pixels, sharpened),
        identity=_identity,
        params={"usm_target": sharpened},
        typical=Typical(rate=398.0, at=128, per_pixel=3 * 0.6),
    )


def run(params: Params, executor: Executor) -> None:
    """Survey the photographs, list patches and rejects, and cut the hr patches."""
    spec = params.active.data
    sources = Sources.of(spec, params.photographs)
    if missing := missing_from_packages(spec.packages):
        raise UserError(f"Installed packages lack {', '.join(missing)}.", "Run: make env (it installs pinned versions)")
    cache = Cache()
    candidates, ignored = sources.photographs()
    progress = Progress("ingest", len(candidates))
    usable: list[survey.Usable] = []
    rejects: list[survey.Reject] = []
    for photograph in candidates:
        verdict = survey.examine(photograph, sources, spec, cache)
        if isinstance(verdict, survey.Usable):
            usable.append(verdict)
        else:
            rejects.append(verdict)
        progress.advance()
    progress.close()
    images, duplicates = survey.drop_duplicates(usable)
    rejects = sorted([*rejects, *duplicates], key=lambda reject: reject.photograph)
    survey.refuse_bad_input(len(candidates), rejects, spec)
    splits = survey.assign_splits(images, spec)
    patches = [patch for image in images for patch in survey.cut(image, splits[image.sha256], spec)]

    layout.REJECTS.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(reject.plain(), sort_keys=True) + "\n" for reject in rejects)
    layout.REJECTS.write_text("".join(lines), encoding="utf-8")
    summary = survey.summarize(images, patches, rejects, ignored)
    layout.INGEST_REPORT.parent.mkdir(parents=True, exist_ok=True)
    layout.INGEST_REPORT.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for reject in rejects[:10]:
        where = f"{reject.photograph.source} {reject.photograph.path}"
        log.warning("ingest    not used: %s: %s, %s", where, reject.reason, reject.detail)
    if len(rejects) > 10:
        log.warning("ingest    and %d more, all in %s", len(rejects) - 10, layout.REJECTS)
    write_patches(layout.PATCHES, patches)
    build_column(job(params), patches, executor, cache, layout.SHARDS)


def _identity() -> dict[str, Any]:
    return {"kind": "crop", "version": survey.VERSION}


class CropWorker:
    """Reads a photograph (the last two are kept: patches come nearly image by image) and cuts its patch."""

    def __init__(self, sources: Sources, max_bytes: int, max_pixels: int, usm_target: bool) -> None:
        self._sources, self._usm_target = sources, usm_target
        self._pixels = lru_cache(maxsize=2)(partial(_pixels, sources, max_bytes, max_pixels))

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Samples without inputs -> {"hr.png": (size, size, 3) uint8}."""
        return [{"hr.png": self._crop(sample.patch)} for sample in samples]

    def _crop(self, patch: Patch) -> np.ndarray:
        pixels = self._pixels(patch.source, patch.path)
        crop = np.ascontiguousarray(pixels[patch.y : patch.y + patch.size, patch.x : patch.x + patch.size])
        return sharpen(crop) if self._usm_target else crop


def _pixels(sources: Sources, max_bytes: int, max_pixels: int, source: str, path: str) -> np.ndarray:
    try:
        return decode(sources.read(source, path, max_bytes), max_pixels).pixels
    except RejectedSample as error:
        raise UserError(
            f"{source} {path} was readable a moment ago: {error}", "Leave the folder still; rerun."
        ) from None
