"""Tagger and detector that know names: ImageNet's classes where the network is sure, regions everywhere else."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from spasemsr.backends.grounding.components import ComponentDetector
from spasemsr.backends.grounding.evidence import Classifier, Evidence, classes_of
from spasemsr.backends.grounding.palette import PaletteTagger
from spasemsr.backends.grounding.regions import find_regions
from spasemsr.backends.grounding.select import iou
from spasemsr.backends.grounding.spec import ActivationDetectorSpec, EfficientNetLiteTaggerSpec
from spasemsr.backends.protocols import Box, Tag
from spasemsr.pixels import ImageU8
from spasemsr.weights.store import locate

_SAME = 0.5  # a region whose box overlaps a named thing's by more is that thing


@cache
def _classifier(checkpoint: Path) -> Classifier:
    """One for tagger and detector, so that they look at an image once."""
    return Classifier(checkpoint)


class EfficientNetLiteTagger:
    """Names with at least `min_score`, the surest `max_names`; then the regions' own names ("blue sky")."""

    def __init__(self, spec: EfficientNetLiteTaggerSpec) -> None:
        self._spec, self._regions = spec, PaletteTagger()
        self._classifier = _classifier(locate(spec.source, spec.revision).path)

    def tag(self, images: Sequence[ImageU8]) -> list[list[Tag]]:
        """(H, W, 3) u8 images -> their tags, named ones first, best first."""
        return [
            self._named(self._classifier(image)) + regions
            for image, regions in zip(images, self._regions.tag(images), strict=True)
        ]

    def _named(self, evidence: Evidence) -> list[Tag]:
        sure = [Tag(name, score) for name, score in evidence.scores.items() if score >= self._spec.min_score]
        return sorted(sure, key=lambda tag: (-tag.score, tag.text))[: self._spec.max_names]


class ActivationDetector:
    """A box for each tag that is one of the network's names, where its activation is; the regions for all others."""

    def __init__(self, spec: ActivationDetectorSpec) -> None:
        self._regions = ComponentDetector()
        self._classifier = _classifier(locate(spec.source, spec.revision).path)

    def detect(self, images: Sequence[ImageU8], tags: Sequence[list[Tag]]) -> list[list[Box]]:
        """(H, W, 3) u8 images and their tags -> named boxes, then those of regions that are none of them."""
        found = []
        for image, asked, regions in zip(images, tags, self._regions.detect(images, tags), strict=True):
            named = [self._box(image, tag) for tag in asked if tag.text in classes_of()]
            others = [box for box in regions if all(iou(box, thing) <= _SAME for thing in named)]
            found.append(named + others)
        return found

    def _box(self, image: ImageU8, tag: Tag) -> Box:
        labels, _ = find_regions(image)
        activation = self._classifier(image).map_of(tag.text, *labels.shape)
        return Box(tag.text, outline(activation, labels), tag.score)


_PEAK = 0.45  # share of the strongest activation from which on a place belongs to the thing


def outline(activation: np.ndarray, labels: np.ndarray) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1 in [0, 1] of the connected piece around the strongest activation, (h, w) with its regions (h, w).

    A region most of which is active belongs to the thing whole, so that the box ends where its colour does.
    """
    active = activation >= _PEAK * activation.max()
    counts = np.bincount(labels.ravel())
    shares = np.bincount(labels.ravel(), active.ravel().astype(float)) / np.maximum(counts, 1)
    whole = (shares > 0.6) & (counts < 0.5 * labels.size)
    filled = (active | whole[labels]).astype(np.uint8)
    pieces = cv2.connectedComponents(filled, connectivity=4)[1]
    peak = np.unravel_index(int(activation.argmax()), activation.shape)
    rows, columns = np.nonzero(pieces == pieces[peak])
    height, width = activation.shape
    x0, x1 = float(columns.min() / width), float((columns.max() + 1) / width)
    y0, y1 = float(rows.min() / height), float((rows.max() + 1) / height)
    return x0, y0, x1, y1
