"""Stage ground: tags -> boxes -> masks, column objects.

Training splits are grounded on hr, evaluation splits on the restored image: what inference will have (paper, Sec. 3.2).
"""

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.backends.extractors.texture_words import TEXTURES
from spasemsr.backends.grounding import build_detector, build_segmenter, build_tagger
from spasemsr.backends.grounding.select import select
from spasemsr.backends.grounding.spec import GroundSpec, identity_of, with_what_is_here
from spasemsr.backends.grounding.texture_areas import TextureAreas, below, painted
from spasemsr.backends.protocols import Box
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import HR, MAX_OBJECTS, OBJECTS, RESTORED
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.data.patches import Patch, read_patches
from spasemsr.data.shards import ColumnReader
from spasemsr.methods.columns import columns_of
from spasemsr.randomness import generator


def job(params: Params) -> ColumnJob:
    """Ground every patch."""
    spec = with_what_is_here(params.ground())
    guessed = spec.textures is not None and "train" in columns_of(params.sections())[RESTORED.name].splits
    restored = InputRef(RESTORED, splits=("train", "val") if guessed else ("val",))
    return ColumnJob(
        OBJECTS,
        inputs=(InputRef(HR, splits=("train",)), restored),
        worker=partial(GroundWorker, spec),
        identity=partial(identity_of, spec),
        params={"ground": spec.content()},
        batch_size=spec.batch_size,
        seed_inputs=which_patch if guessed else None,
        backends=(spec.tagger, spec.detector, spec.segmenter),
        typical=Typical(rate=20.5, at=128, fixed=2500, per_pixel=0.01),
    )


def which_patch(patch: Patch, variant: int | None) -> list[Any]:
    """Part of a result's name in the cache: the patch decides whether its textures are measured or guessed."""
    return [patch.key]


def run(params: Params, executor: Executor) -> None:
    """Build the column and report how many objects and which tags were found."""
    build_column(job(params), read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)
    _report()


def _report() -> None:
    """Objects per image, and counts of tags and areas' names, as `dvc metrics show` prints them."""
    per_image: Counter[int] = Counter()
    tags: Counter[str] = Counter()
    reader = ColumnReader(layout.SHARDS, OBJECTS)
    for key in reader.keys():  # noqa: SIM118 (a method, not a mapping)
        found = reader.read(key, "objects.json")["tags"]
        per_image[sum(tag not in TEXTURES for tag in found)] += 1
        tags.update(found)
    images = sum(per_image.values())
    report = {
        "images": images,
        "objects_per_image": round(sum(n * count for n, count in per_image.items()) / max(images, 1), 4),
        "images_by_objects": {str(n): per_image[n] for n in sorted(per_image)},
        "tags": dict(sorted(tags.items(), key=lambda item: (-item[1], item[0]))),
    }
    layout.GROUND_REPORT.parent.mkdir(parents=True, exist_ok=True)
    layout.GROUND_REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


class GroundWorker:
    """hr.png or restored.png -> objects.json and masks.png."""

    def __init__(self, spec: GroundSpec) -> None:
        self._spec = spec
        self._tagger = build_tagger(spec.tagger)
        self._detector = build_detector(spec.detector)
        self._segmenter = build_segmenter(spec.segmenter)
        self._areas = TextureAreas(spec.textures) if spec.textures else None

    def prepare(self, sample: Sample) -> None:
        """Let networks resize what they will look at."""
        for backend in (self._detector, self._segmenter):
            if prepare := getattr(backend, "prepare", None):
                prepare(next(iter(sample.inputs.values())))

    def _textures(self, sample: Sample) -> list[Box]:
        """Areas of like texture: measured where there is hr, but guessed as in inference for a share of the patches."""
        if self._areas is None or self._spec.textures is None:
            return []
        hr, restored = sample.inputs.get("hr.png"), sample.inputs.get("restored.png")
        drawn = generator(0, "textures", sample.patch.key).random()
        if hr is None or (restored is not None and drawn < self._spec.textures.recognised):
            assert restored is not None
            return self._areas.recognised(restored)
        return self._areas.measured(hr)

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Ground a batch; no object found is a value (N = 0), not an error."""
        sources = [next(iter(sample.inputs)) for sample in samples]
        images = [sample.inputs[source] for sample, source in zip(samples, sources, strict=True)]
        tags = self._tagger.tag(images)
        boxes = [select(found, self._spec) for found in self._detector.detect(images, tags)]
        masks = self._segmenter.segment(images, boxes)
        for i, sample in enumerate(samples):
            areas = self._textures(sample)[: MAX_OBJECTS - len(boxes[i])]  # the least sure of a huge patch go
            masks[i] = painted(masks[i], areas, len(boxes[i]) + 1)
            boxes[i] = below(boxes[i], areas)
        return [
            {
                "objects.json": {
                    "tags": [box.tag for box in found],
                    "boxes": [list(box.xyxy) for box in found],
                    "scores": [box.score for box in found],
                    "source": source.removesuffix(".png"),
                },
                "masks.png": mask,
            }
            for found, mask, source in zip(boxes, masks, sources, strict=True)
        ]
