"""Where the areas of `textures.py` come from: measured on hr, guessed by the recogniser on a restored image.

The recogniser is a student of `texture_classes`, trained by stage `adapt` to see in a restored image what is in hr.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from spasemsr.backends.extractors.filter_bank import CELL
from spasemsr.backends.extractors.texture import TextureClasses
from spasemsr.backends.extractors.texture_words import DOUBT
from spasemsr.backends.grounding.spec import TexturesSpec
from spasemsr.backends.grounding.textures import one_hot, texture_boxes
from spasemsr.backends.protocols import Array, Box, MaskU8
from spasemsr.pixels import ImageU8

if TYPE_CHECKING:  # torch takes seconds to import, and hr needs none
    from spasemsr.backends.extractors.student import Student

STRIP, MARGIN = 512, 64  # rows of pixels that the student is shown at a time, and beyond them what its answer reaches
SQUARE = 192  # pixels of a side in which `most` areas are looked for, in proportion in others


class TextureAreas:
    """Areas of like texture of a picture, as boxes with their words as tags."""

    def __init__(self, spec: TexturesSpec, device: str = "cpu") -> None:
        self._spec, self._device = spec, device

    def measured(self, hr: ImageU8) -> list[Box]:
        """(H, W, 3) u8 hr of at least 8 px -> the areas of what it shows."""
        return self._boxes(one_hot(TextureClasses().extract([hr])[0]), hr)

    def recognised(self, restored: ImageU8) -> list[Box]:
        """(H, W, 3) u8 restored image from 8 px on -> areas that hr probably has, said to be guesses if so asked."""
        boxes = self._boxes(self._guessed(restored), restored)
        return [replace(box, tag=DOUBT + box.tag) for box in boxes] if self._spec.doubted else boxes

    def _guessed(self, restored: ImageU8) -> Array:
        """Posteriors (K, h, w), strip by strip: in the student a picture has 64 channels at half its size."""
        height = restored.shape[0] // CELL * CELL
        strips = []
        for top in range(0, height, STRIP):
            first, bottom = max(top - MARGIN, 0), min(top + STRIP, height)
            shown = np.ascontiguousarray(restored[first : min(bottom + MARGIN, height)])
            rows = slice((top - first) // CELL, (bottom - first) // CELL)
            strips.append(self._recogniser.shares([shown])[0][:, rows])
        return np.concatenate(strips, axis=1)

    def _boxes(self, shares_Khw: Array, image: ImageU8) -> list[Box]:
        height, width = image.shape[:2]
        return texture_boxes(shares_Khw, max(round(self._spec.most * height * width / SQUARE**2), 1))

    @cached_property
    def _recogniser(self) -> "Student":
        from spasemsr.backends.extractors.student import Student

        return Student(self._spec.student, self._device)


def below(objects: Sequence[Box], areas: Sequence[Box]) -> list[Box]:
    """Objects, then areas, none of them surer than the last object: best first, as every list of boxes is."""
    most = objects[-1].score if objects else 1.0
    return [*objects, *(replace(area, score=min(area.score, most)) for area in areas)]


def painted(mask: MaskU8, boxes: Sequence[Box], first: int) -> MaskU8:
    """The mask (H, W) with areas painted where there is no object yet, numbered from `first`."""
    height, width = mask.shape
    areas = np.zeros_like(mask)
    for number, box in enumerate(boxes, start=first):
        x0, y0, x1, y1 = (round(side * length) for side, length in zip(box.xyxy, (width, height) * 2, strict=True))
        cv2.rectangle(areas, (x0, y0), (x1 - 1, y1 - 1), number, cv2.FILLED)
    return np.where(mask == 0, areas, mask)
