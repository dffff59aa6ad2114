"""Reads what is written in a picture: one network finds lines of text, another reads each.

Both are PaddleOCR's (PP-OCRv6, small), run by OpenCV; the same picture gives the same reading on any number of cores
as long as OpenCV has one thread (`determinism.single_threaded`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.backends.text.outlines import Corners, outlines
from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8
from spasemsr.weights.onnx import read_metadata

LOOKED_AT = 1024  # pixels of the longer side in which lines are looked for
_CELL = 32  # sides of what the finding network is given are multiples of it
_HEIGHT, _WIDEST = 48, 1600  # pixels of a line as it is read
_UPRIGHT = 1.5  # a line that is so many times higher than wide is read turned by a quarter


@dataclass(frozen=True)
class Line:
    """A line of text: its corners as shares of width and height, what it reads, and how sure that is, 0 to 1."""

    corners: tuple[tuple[float, float], ...]
    text: str
    score: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0 y0 x1 y1 in [0, 1] of the upright box around it."""
        x, y = np.clip(np.array(self.corners), 0.0, 1.0).T
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())


class TextReader:
    """Two networks, each loaded when it is first needed; not for two threads at once."""

    def __init__(self, finding: Path, reading: Path, sha256: str) -> None:
        """Paths of the two ONNX files, and what names their bytes."""
        self._finding, self._reading, self.sha256 = finding, reading, sha256

    def read(self, image: ImageU8) -> list[Line]:
        """(H, W, 3) uint8 RGB -> its lines, from the top down; a line of which nothing can be read has the text ""."""
        return self.read_at(image, self._find(image))

    def read_at(self, image: ImageU8, places: Sequence[Line]) -> list[Line]:
        """What (H, W, 3) uint8 RGB reads where the lines of another picture of the same thing are."""
        size = np.array(image.shape[1::-1], np.float32)
        found = []
        for place in places:
            crop = _straightened(image, np.array(place.corners, np.float32) * size)
            found.append(Line(place.corners, *self._read_line(crop)))
        return found

    def _find(self, image: ImageU8) -> list[Line]:
        height, width = image.shape[:2]
        factor = min(LOOKED_AT / max(height, width), 1.0)
        rows, columns = (max(round(side * factor / _CELL), 1) * _CELL for side in (height, width))
        small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
        self._finder.setInput(_planes(small))
        chances = self._finder.forward()[0, 0]
        shares = [corners / (columns, rows) for corners in outlines(chances)]
        return [Line(tuple((float(x), float(y)) for x, y in corners), "", 0.0) for corners in shares]

    def _read_line(self, crop: ImageU8) -> tuple[str, float]:
        """(H, W, 3) of one line -> its text and the mean probability of its characters.

        Connectionist temporal classification, greedily: of equal neighbours one, then without blanks.
        """
        width = min(max(round(crop.shape[1] * _HEIGHT / crop.shape[0]), 1), _WIDEST)
        planes = np.zeros((1, 3, _HEIGHT, -(-width // _CELL) * _CELL), np.float32)
        planes[..., :width] = _planes(cv2.resize(crop, (width, _HEIGHT), interpolation=cv2.INTER_LINEAR))
        self._recogniser.setInput(planes)
        chances = self._recogniser.forward()[0]
        best = chances.argmax(axis=1)
        kept = (best != 0) & np.append(True, best[1:] != best[:-1])
        if not kept.any():
            return "", 0.0
        text = "".join(self._characters[index - 1] for index in best[kept])
        return text.strip(), float(chances.max(axis=1)[kept].mean())

    @cached_property
    def _finder(self) -> cv2.dnn.Net:
        return cv2.dnn.readNetFromONNX(str(self._finding))

    @cached_property
    def _recogniser(self) -> cv2.dnn.Net:
        return cv2.dnn.readNetFromONNX(str(self._reading))

    @cached_property
    def _characters(self) -> list[str]:
        """Characters by number, from 1 on; 0 is the blank, and what follows the file's own list is a space."""
        listed = read_metadata(self._reading).get("character")
        if listed is None:
            raise UserError(f"{self._reading} does not say which characters it reads.", "Install its package again.")
        return [*listed.split("\n"), " "]


def _planes(rgb: ImageU8) -> npt.NDArray[np.float32]:
    """(H, W, 3) RGB -> (1, 3, H, W) BGR in [-1, 1], as both networks take it."""
    return np.ascontiguousarray((rgb[..., ::-1].astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[None])


def _straightened(image: ImageU8, corners: Corners) -> ImageU8:
    """The line within these corners (pixels), upright: (H, W, 3)."""
    top_left, top_right, bottom_right, bottom_left = corners
    width = max(round(float(max(np.hypot(*(top_right - top_left)), np.hypot(*(bottom_right - bottom_left))))), 1)
    height = max(round(float(max(np.hypot(*(bottom_left - top_left)), np.hypot(*(bottom_right - top_right))))), 1)
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    crop = cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(np.rot90(crop)) if height >= _UPRIGHT * width else crop
