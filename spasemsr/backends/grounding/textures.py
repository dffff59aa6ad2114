"""Areas of like texture, named by how strong it is and which way it runs: "strong upright texture", "smooth surface".

What a picture's colours are, any copy of it shows. What texture fills a place is lost with the pixels, so these are the
words that can tell a network something: on hr they are measured, on a restored image a recogniser guesses them. Areas
are rectangles that divide the picture whole, so that a box says exactly which cells its words are about. K classes of
`texture_classes`, h w cells of 8 px.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spasemsr.backends.extractors.texture import CLASSES, LEVELS
from spasemsr.backends.extractors.texture_words import DIRECTIONS, SMOOTH, STRENGTHS
from spasemsr.backends.protocols import Array, Box

_DIRECTED = 0.5  # share of what is not smooth that runs one way, from which on an area has a direction
_LEAST = 3  # cells of a side
_LEVEL = 2.0  # how far apart neighbouring levels are, where the directions of one level are 1.4 apart
_GAIN = 11.5  # squares of such distances, over all cells, that a cut has to explain, however large the picture


@dataclass(frozen=True)
class _Area:
    """A rectangle of cells, and what dividing it at the best place takes away."""

    y0: int
    x0: int
    y1: int
    x1: int
    gain: float
    cut: tuple[str, int]


def texture_boxes(shares_Khw: Array, most: int) -> list[Box]:
    """Posteriors of classes, float (K, h, w) -> at most `most` boxes that divide the picture, the surest first.

    Greedy as a regression tree: the cut that explains most of what the classes vary comes first, along a line of cells.
    A box's score is the share of its cells that are as its words say.
    """
    classes, height, width = shares_Khw.shape
    if classes != CLASSES:
        raise ValueError(f"{classes} classes of texture, not {CLASSES}")
    sums = np.pad(_positions(shares_Khw).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    areas = [_area(sums, 0, 0, height, width)]
    while len(areas) < most:
        index = max(range(len(areas)), key=lambda i: areas[i].gain)
        if areas[index].gain <= _GAIN:
            break
        best = areas.pop(index)
        areas += [_area(sums, *part) for part in _cut(best.y0, best.x0, best.y1, best.x1, *best.cut)]
    boxes = [_box(shares_Khw, area) for area in areas]
    return sorted(boxes, key=lambda box: (-box.score, -box.area, box.xyxy))


def words(shares_K: Array) -> tuple[str, float]:
    """Mean posteriors of an area's classes (K,) -> its name, and the share of them that it names."""
    levels = shares_K.reshape(len(LEVELS) + 1, len(DIRECTIONS))
    level = int(levels.sum(axis=1).argmax())
    if level == 0:
        return SMOOTH, float(levels[0].sum())
    directions = levels[1:].sum(axis=0)
    direction, strength = int(directions.argmax()), STRENGTHS[level - 1]
    if directions[direction] < _DIRECTED * directions.sum():
        return f"{strength} texture", float(levels[level].sum())
    return f"{strength} {DIRECTIONS[direction]} texture", float(levels[level].sum())


def _positions(shares_Khw: Array) -> Array:
    """(1 + directions, h, w): the expected level, and how much of a cell runs each way."""
    levels = shares_Khw.reshape(len(LEVELS) + 1, len(DIRECTIONS), *shares_Khw.shape[1:]).astype(np.float64)
    expected = np.tensordot(np.arange(len(levels)), levels.sum(axis=1), 1)
    return np.concatenate([_LEVEL * expected[None], levels[1:].sum(axis=0)])


def _explained(sums: Array, corners: Sequence[Any]) -> Array:
    """How much of the sum of squares the mean of each rectangle explains; corners y0 x0 y1 x1, numbers or arrays."""
    y0, x0, y1, x1 = np.broadcast_arrays(*np.atleast_1d(*corners))
    total = sums[:, y1, x1] - sums[:, y0, x1] - sums[:, y1, x0] + sums[:, y0, x0]
    return (total**2).sum(axis=0) / ((y1 - y0) * (x1 - x0))


def _area(sums: Array, y0: int, x0: int, y1: int, x1: int) -> _Area:
    best: tuple[float, tuple[str, int]] = (0.0, ("", 0))
    whole = _explained(sums, (y0, x0, y1, x1))
    for axis, first, last in (("y", y0, y1), ("x", x0, x1)):
        at = np.arange(first + _LEAST, last - _LEAST + 1)
        if at.size:
            parts = _cut(y0, x0, y1, x1, axis, at)
            gains = sum(_explained(sums, part) for part in parts) - whole
            index = int(gains.argmax())
            best = max(best, (float(gains[index]), (axis, int(at[index]))))
    return _Area(y0, x0, y1, x1, *best)


def _cut(y0: int, x0: int, y1: int, x1: int, axis: str, at: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The two parts of a rectangle that is divided at a row or a column."""
    if axis == "y":
        return (y0, x0, at, x1), (at, x0, y1, x1)
    return (y0, x0, y1, at), (y0, at, y1, x1)


def _box(shares_Khw: Array, area: _Area) -> Box:
    height, width = shares_Khw.shape[1:]
    name, share = words(shares_Khw[:, area.y0 : area.y1, area.x0 : area.x1].mean(axis=(1, 2)))
    corners = area.x0 / width, area.y0 / height, area.x1 / width, area.y1 / height
    return Box(name, corners, share)


def one_hot(labels_1hw: Array) -> Array:
    """Labels of cells (1, h, w) -> their posteriors (K, h, w), which are sure."""
    return np.eye(CLASSES, dtype=np.float32)[labels_1hw[0]].transpose(2, 0, 1)
