"""Regions of like colour, each named by measured colour and texture ("blue sky", "green foliage", "black region").

A region that stands out of its surroundings is an object. Everything is measured at 128 px, on a smoothed copy, so that
a patch and its restored copy give similar boxes.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from spasemsr.pixels import ImageU8

WORK_SIDE = 128
_MERGE_DISTANCE = 13.0  # Lab units, lightness at 0.8: shading divides a thing less than colour does
_LUMA_WEIGHT = 0.8
_SMALL, _SMALL_BONUS = 0.01, 0.4  # regions below this share of the image merge at 2.5 times that distance
_SMOOTH = 2.5  # standard deviation of lightness within it below which a region is smooth
_HUES = (20.0, 48.0, 75.0, 105.0, 165.0, 225.0, 300.0, 335.0)  # degrees in the a-b plane of Lab
_HUE_WORDS = ("pink", "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")


@dataclass(frozen=True)
class Region:
    """One region: its name, its number in the label map, x0 y0 x1 y1 in [0, 1], scores and area in [0, 1]."""

    name: str
    label: int
    xyxy: tuple[float, float, float, float]
    score: float
    area: float


def find_regions(image: ImageU8) -> tuple[np.ndarray, list[Region]]:
    """Label map at 128 px on the longer side, and the regions, best score first. A function of the image alone."""
    return _find_regions(image.tobytes(), image.shape)


@lru_cache(maxsize=8)  # tagger, detector and segmenter ask for the same image one after the other
def _find_regions(data: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, list[Region]]:
    image = np.frombuffer(data, np.uint8).reshape(shape)
    factor = WORK_SIDE / max(shape[:2])
    size = max(round(shape[1] * factor), 1), max(round(shape[0] * factor), 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    smooth = cv2.pyrMeanShiftFiltering(small, 6, 16)
    lab = cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    labels = _merge(lab, _oversegment(lab))
    regions = _describe(labels, lab, cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab))
    labels.setflags(write=False)
    return labels, sorted(regions, key=lambda region: (-region.score, -region.area, region.label))


def _oversegment(lab: np.ndarray) -> np.ndarray:
    """Felzenszwalb and Huttenlocher's (2004) regions, labelled from 0: more of them than there are things."""
    from skimage.segmentation import felzenszwalb

    weighted = lab * np.array([_LUMA_WEIGHT, 1, 1], np.float32) / 100
    return felzenszwalb(weighted, scale=60, sigma=0.5, min_size=max(lab.shape[0] * lab.shape[1] // 400, 4))


def _merge(lab: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Merge neighbours, the most alike first, until none are closer than the merge distance; labels from 0."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels.ravel(), minlength=count).astype(float)
    sums = np.stack([np.bincount(labels.ravel(), lab[..., c].ravel(), count) for c in range(3)], axis=1)
    colours = sums / sizes[:, None] * (_LUMA_WEIGHT, 1, 1)
    touching = _borders(labels, count) > 0
    parents = np.arange(count)
    distance = np.full((count, count), np.inf)

    def measure(i: int) -> None:
        others = np.flatnonzero(touching[i])
        apart = np.linalg.norm(colours[others] - colours[i], axis=1)
        apart *= np.where(np.minimum(sizes[others], sizes[i]) < _SMALL * labels.size, _SMALL_BONUS, 1.0)
        distance[i, :] = distance[:, i] = np.inf
        distance[i, others] = distance[others, i] = apart

    for i in range(count):
        measure(i)
    while count > 1:
        i, j = divmod(int(distance.argmin()), count)
        if distance[i, j] > _MERGE_DISTANCE:
            break
        colours[i] = (colours[i] * sizes[i] + colours[j] * sizes[j]) / (sizes[i] + sizes[j])
        sizes[i] += sizes[j]
        parents[parents == j] = i
        touching[i] |= touching[j]
        touching[:, i] |= touching[:, j]
        touching[j, :] = touching[:, j] = touching[i, i] = False
        distance[j, :] = distance[:, j] = np.inf
        measure(i)
    return np.unique(parents[labels], return_inverse=True)[1].reshape(labels.shape)


def _borders(labels: np.ndarray, count: int) -> np.ndarray:
    """(count, count): how many pixel borders two regions share."""
    borders = np.zeros((count, count))
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        apart = one != other
        np.add.at(borders, (one[apart], other[apart]), 1)
    return borders + borders.T


def _describe(labels: np.ndarray, lab: np.ndarray, detailed: np.ndarray) -> list[Region]:
    """Name, box and score of every region of the label map."""
    count = int(labels.max()) + 1
    height, width = labels.shape
    colours = np.stack([lab[labels == i].mean(axis=0) for i in range(count)]).astype(float)
    borders = _borders(labels, count)
    differences = np.linalg.norm(colours[:, None] - colours[None], axis=2)
    contrasts = (borders * differences).sum(axis=1) / np.maximum(borders.sum(axis=1), 1)
    regions = []
    for i in range(count):
        inside = labels == i
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        area = inside.mean()
        texture = _texture(detailed[..., 0], inside)
        at_top = bool(inside[0].any()) and rows.mean() < height / 2
        score = _score(float(contrasts[i]), float(inside.sum() / ((y1 - y0) * (x1 - x0))), float(area))
        box = float(x0 / width), float(y0 / height), float(x1 / width), float(y1 / height)
        regions.append(Region(_name(colours[i], texture, at_top), i, box, score, float(area)))
    return regions


def _texture(light: np.ndarray, inside: np.ndarray) -> float:
    """Standard deviation of lightness between 4 and 12 px within a region, blind to what lies across its border."""
    weight = inside.astype(np.float32)

    def mean(sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(light * weight, (0, 0), sigma)[inside] / cv2.GaussianBlur(weight, (0, 0), sigma)[inside]

    return float(np.sqrt(np.mean((mean(1.5) - mean(4.0)) ** 2)))


def _score(contrast: float, compactness: float, area: float) -> float:
    """In [0, 1]: how well a region stands out, fills its box, and is neither a speck nor the whole image."""
    large_enough = min(math.sqrt(area / 0.1), 1.0)
    not_everything = min(max((0.95 - area) / 0.35, 0.0), 1.0)
    return (1 - math.exp(-contrast / 15)) * (0.4 + 0.6 * compactness) * large_enough * not_everything


def _name(colour: np.ndarray, texture: float, at_top: bool) -> str:
    """A colour word and a word for what such a surface is, from mean Lab, texture and place."""
    light, chroma = colour[0], math.hypot(colour[1], colour[2])
    hue = math.degrees(math.atan2(colour[2], colour[1])) % 360
    word = _HUE_WORDS[bisect_right(_HUES, hue)]
    smooth = texture < _SMOOTH
    if light < 20:
        return "black region"
    if chroma < 8:
        word = "white" if light > 78 else "gray"
    elif word in ("red", "orange", "yellow") and chroma < 42:
        if smooth and 45 < light < 88 and 35 < hue < 68 and chroma > 12:
            return "skin tone"
        word = "beige" if light > 62 else "brown"
    if smooth:
        sky = at_top and light > 40 and word in ("blue", "cyan", "white", "gray")
        return f"{word} {'sky' if sky else 'surface'}"
    return "green foliage" if word == "green" else f"{word} texture"
