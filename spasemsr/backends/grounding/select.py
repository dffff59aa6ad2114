"""The selection of boxes that all detectors share: threshold, non-maximum suppression, the largest scores."""

from collections.abc import Sequence

from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.protocols import Box


def select(boxes: Sequence[Box], spec: GroundSpec) -> list[Box]:
    """The rule of every profile: score, area and overlap limits, best first, at most `max_objects`.

    Sorted by falling score, ties by larger area, then by place in the list. A box that overlaps a better one by more
    than `nms_iou` goes, whatever their tags.
    """
    order = sorted(range(len(boxes)), key=lambda i: (-boxes[i].score, -boxes[i].area, i))
    kept: list[Box] = []
    for box in (boxes[i] for i in order):
        if box.score < spec.detector.min_score or box.area < spec.min_area or len(kept) == spec.max_objects:
            continue
        if all(iou(box, better) <= spec.nms_iou for better in kept):
            kept.append(box)
    return kept


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 where both are empty."""
    x0, y0 = max(one.xyxy[0], other.xyxy[0]), max(one.xyxy[1], other.xyxy[1])
    x1, y1 = min(one.xyxy[2], other.xyxy[2]), min(one.xyxy[3], other.xyxy[3])
    overlap = max(x1 - x0, 0.0) * max(y1 - y0, 0.0)
    union = one.area + other.area - overlap
    return overlap / union if union > 0 else 0.0
