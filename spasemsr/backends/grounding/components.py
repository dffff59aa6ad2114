"""Embedded detector and segmenter: the regions of `regions.py` as boxes and masks."""

from collections.abc import Sequence

import cv2
import numpy as np

from spasemsr.backends.grounding.regions import find_regions
from spasemsr.backends.grounding.select import iou
from spasemsr.backends.protocols import Box, MaskU8, Tag
from spasemsr.pixels import ImageU8


class ComponentDetector:
    """One box per region that carries one of the tags asked for."""

    def detect(self, images: Sequence[ImageU8], tags: Sequence[list[Tag]]) -> list[list[Box]]:
        """(H, W, 3) u8 images and their tags -> boxes, best first, not yet selected."""
        found = []
        for image, asked in zip(images, tags, strict=True):
            names = {tag.text for tag in asked}
            regions = [region for region in find_regions(image)[1] if region.name in names and region.score > 0]
            found.append([Box(region.name, region.xyxy, region.score) for region in regions])
        return found


class ComponentSegmenter:
    """For every box the region that fills it best."""

    def segment(self, images: Sequence[ImageU8], boxes: Sequence[list[Box]]) -> list[MaskU8]:
        """(H, W, 3) u8 images and selected boxes -> (H, W) u8: 0 nothing, i = box i, counted from 1."""
        return [_masks(image, chosen) for image, chosen in zip(images, boxes, strict=True)]


def _masks(image: ImageU8, boxes: Sequence[Box]) -> MaskU8:
    labels, regions = find_regions(image)
    mask = np.zeros(labels.shape, np.uint8)
    for number, box in enumerate(boxes, start=1):
        # our own detector's boxes match exactly; for any other, the region whose box agrees best
        fits = [(iou(box, Box(region.name, region.xyxy, 0.0)), region.name == box.tag) for region in regions]
        best = max(range(len(fits)), key=lambda i: fits[i])
        mask[(labels == regions[best].label) & (mask == 0)] = number
    return cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
