"""Conditions found on hr instead of lr: the state "truth" of an audit, and how much of it is found without hr."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.backends.extractors.texture_words import TEXTURES
from spasemsr.backends.grounding import build_detector, build_tagger
from spasemsr.backends.grounding.select import iou, select
from spasemsr.backends.grounding.spec import GroundSpec, with_what_is_here
from spasemsr.backends.grounding.texture_areas import TextureAreas, below
from spasemsr.backends.protocols import Box
from spasemsr.data.dataset import Batch, Objects
from spasemsr.pixels import ImageU8, to_tensor

if TYPE_CHECKING:
    from spasemsr.methods.protocol import Method


SAME_PLACE = 0.5  # intersection over union from which two boxes are about one thing


class Truth:
    """What a profile's own grounding and the method's own extractors find on hr."""

    def __init__(self, method: "Method", spec: GroundSpec) -> None:
        """Tagger and detector are built where the method has tags among its conditions.

        As in stage ground, palette and components serve where the package of a kind is not installed.
        """
        self._method, self._spec = method, with_what_is_here(spec)
        if "tags" in method.conditions:
            self._tagger, self._detector = build_tagger(self._spec.tagger), build_detector(self._spec.detector)
            self._areas = TextureAreas(self._spec.textures) if self._spec.textures else None

    def of(self, batch: Batch, hr: ImageU8) -> Batch:
        """The batch of one with conditions found on hr, (H, W, 3), instead of lr."""
        if self._method.condition_features:
            batch = self._method.seeing(batch, to_tensor(hr).contiguous())
        if "tags" not in self._method.conditions:
            return batch
        tags = self._tagger.tag([hr])
        boxes = select(self._detector.detect([hr], tags)[0], self._spec)
        boxes = below(boxes, self._areas.measured(hr)) if self._areas else boxes
        corners = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
        objects = Objects([box.tag for box in boxes], corners, [box.score for box in boxes], "hr")
        return replace(batch, objects=[objects])


def found_again(there: Objects, here: Objects) -> tuple[int, int]:
    """How many objects of hr have a box of `SAME_PLACE` among those of its restored copy; how many of them one of
    the same name. Areas of like texture are no objects.
    """
    placed = named = 0
    others = _boxes(here)
    for box in _boxes(there):
        tags = [other.tag for other in others if iou(box, other) >= SAME_PLACE]
        placed, named = placed + bool(tags), named + (box.tag in tags)
    return placed, named


def _boxes(objects: Objects) -> list[Box]:
    rows = zip(objects.tags, objects.boxes.tolist(), objects.scores, strict=True)
    return [Box(tag, (x0, y0, x1, y1), score) for tag, (x0, y0, x1, y1), score in rows if tag not in TEXTURES]
