"""Tagger, detector and segmenter that know: the truth of the scene a picture shows, in the place of recognition."""

from collections.abc import Sequence

import numpy as np

from spasemsr.backends.grounding.select import iou
from spasemsr.backends.protocols import Box, MaskU8, Tag
from spasemsr.pixels import ImageU8
from spasemsr.scenes.lookup import scene_of
from spasemsr.scenes.scene import Scene
from spasemsr.scenes.spec import ScenesSpec


class KnownTagger:
    """The textures of a scene, all with score 1."""

    def __init__(self, scenes: ScenesSpec) -> None:
        self._scenes = scenes

    def tag(self, images: Sequence[ImageU8]) -> list[list[Tag]]:
        """(H, W, 3) u8 pictures of scenes -> their tags. Raises UserError for a picture of no scene."""
        return [[Tag(name, 1.0) for name in scene_of(image, self._scenes).names] for image in images]


class KnownDetector:
    """The regions of a scene whose texture is asked for, all with score 1."""

    def __init__(self, scenes: ScenesSpec) -> None:
        self._scenes = scenes

    def detect(self, images: Sequence[ImageU8], tags: Sequence[list[Tag]]) -> list[list[Box]]:
        """(H, W, 3) u8 pictures and their tags -> boxes. Raises UserError for a picture of no scene."""
        found = []
        for image, asked in zip(images, tags, strict=True):
            names = {tag.text for tag in asked}
            found.append([box for box in _boxes(scene_of(image, self._scenes)) if box.tag in names])
        return found


class KnownSegmenter:
    """For every box the region that fills it best."""

    def __init__(self, scenes: ScenesSpec) -> None:
        self._scenes = scenes

    def segment(self, images: Sequence[ImageU8], boxes: Sequence[list[Box]]) -> list[MaskU8]:
        """(H, W, 3) u8 pictures and selected boxes -> (H, W) u8: 0 nothing, i = box i, counted from 1."""
        return [self._masks(image, chosen) for image, chosen in zip(images, boxes, strict=True)]

    def _masks(self, image: ImageU8, boxes: Sequence[Box]) -> MaskU8:
        scene = scene_of(image, self._scenes)
        regions, factor = _boxes(scene), image.shape[0] / scene.side
        masks = np.zeros(image.shape[:2], np.uint8)
        for number, box in enumerate(boxes, start=1):
            best = max(range(len(regions)), key=lambda index: iou(box, regions[index]))
            region = scene.regions[best]
            rows, columns = ((round(a * factor), round(b * factor)) for a, b in region.spans)
            masks[rows[0] : rows[1], columns[0] : columns[1]] = number
        return masks


def _boxes(scene: Scene) -> list[Box]:
    return [Box(name, tuple(box), 1.0) for name, box in zip(scene.names, scene.boxes.tolist(), strict=True)]
