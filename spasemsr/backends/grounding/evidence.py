"""What an image shows by ImageNet's classes, and where: the evidence that tagger and detector share.

A classifier sees the image whole and in overlapping squares. Classes of one everyday name ("dog" for 118 breeds; what
is worn counts as "person", for which ImageNet has no class) are one thing. B views, K = 1,000 classes, h w places of
the network's last map.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.hashing import sha256_bytes
from spasemsr.pixels import ImageU8

_SIDE = 224  # px that the network was trained on
_SHARE = 0.7  # of the shorter side: the squares
_ELONGATED = 1.2  # from this ratio of sides on, three squares along the longer one
_REMEMBERED = 8  # images: tagger and detector ask for the same one after the other

Float32 = npt.NDArray[np.float32]
Window = tuple[int, int, int, int]  # x0 y0 x1 y1 in pixels of the image


@cache
def class_names() -> tuple[str, ...]:
    """The everyday name of each of the 1,000 classes; many share one."""
    text = resources.files("spasemsr.backends.grounding").joinpath("imagenet_names.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:-1])


@cache
def classes_of() -> Mapping[str, list[int]]:
    """Name -> its classes."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(class_names()):
        found.setdefault(name, []).append(index)
    return found


@dataclass(frozen=True)
class Evidence:
    """How sure the network is of each name (the best view's probability), and what each place of a view says."""

    scores: Mapping[str, float]
    views: tuple[tuple[Window, Float32], ...]  # (K, h, w): probabilities of the classes at each place
    shape: tuple[int, int]  # of the image

    def map_of(self, name: str, height: int, width: int) -> Float32:
        """Where a name is, (height, width) in [0, 1]: the mean over the views that cover a pixel."""
        total, seen = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        fy, fx = height / self.shape[0], width / self.shape[1]
        for (x0, y0, x1, y1), probabilities in self.views:
            place = slice(round(y0 * fy), max(round(y1 * fy), 1)), slice(round(x0 * fx), max(round(x1 * fx), 1))
            size = total[place].shape[1], total[place].shape[0]
            here = probabilities[classes_of()[name]].sum(axis=0)
            total[place] += cv2.resize(here, size, interpolation=cv2.INTER_LINEAR)
            seen[place] += 1
        return np.asarray(total / np.maximum(seen, 1), np.float32)


class Classifier:
    """EfficientNet-Lite0 over an image's views; remembers the last few images."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._network: Any = None
        self._known: OrderedDict[str, Evidence] = OrderedDict()

    def __call__(self, image: ImageU8) -> Evidence:
        """(H, W, 3) u8 -> evidence, a function of the image alone."""
        name = sha256_bytes(repr(image.shape).encode() + image.tobytes())
        if name not in self._known:
            self._known[name] = self._look(image)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[name]

    def _look(self, image: ImageU8) -> Evidence:
        import torch

        from spasemsr.backends.networks.efficientnet import load_efficientnet

        if self._network is None:
            self._network = load_efficientnet(self._checkpoint)
        views, sums = [], np.zeros(len(classes_of()), np.float32)
        for window, picture in _views(image):
            with torch.inference_mode():
                tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
                logits = self._network(tensor)[0]
                views.append((window, logits.softmax(dim=0).numpy()))
                whole = logits.mean(dim=(1, 2)).softmax(dim=0).numpy()
            sums = np.maximum(sums, [whole[classes].sum() for classes in classes_of().values()])
        # Rounded so that a machine's last bits neither change an order nor cross a threshold.
        scores = {name: round(float(score), 3) for name, score in zip(classes_of(), sums, strict=True)}
        return Evidence(scores, tuple(views), (image.shape[0], image.shape[1]))


def _views(image: ImageU8) -> Iterator[tuple[Window, ImageU8]]:
    """The whole image with its shorter side at 224 px, and squares of seven tenths of that side, at 224 px."""
    height, width = image.shape[:2]
    short = min(height, width)
    size = max(round(width * _SIDE / short), _SIDE), max(round(height * _SIDE / short), _SIDE)
    yield (0, 0, width, height), _resized(image, size)
    side = max(round(short * _SHARE), 1)
    rows = np.linspace(0, height - side, 3 if height > _ELONGATED * width else 2)
    columns = np.linspace(0, width - side, 3 if width > _ELONGATED * height else 2)
    for y in (int(row) for row in rows):
        for x in (int(column) for column in columns):
            yield (x, y, x + side, y + side), _resized(image[y : y + side, x : x + side], (_SIDE, _SIDE))


def _resized(image: ImageU8, size: tuple[int, int]) -> ImageU8:
    """By area to a smaller size, by cubic splines to a larger one."""
    smaller = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
