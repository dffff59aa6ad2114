"""Pictures with words on them, and a reader of known answers in the place of the networks."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from spasemsr.backends.text.reader import Line
from spasemsr.pixels import ImageU8


def written(word: str, width: int, height: int) -> ImageU8:
    """Dark letters on a light wall, in the middle."""
    image = np.full((height, width, 3), 225, np.uint8)
    scale = 0.7 * width / cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)[0][0]
    thick = max(round(2 * scale), 1)
    (across, up), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    place = (width - across) // 2, (height + up) // 2
    return cv2.putText(image, word, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (30, 30, 30), thick, cv2.LINE_AA)


class FakeReader:
    """Finds the lines it is made with, and reads `after` where it is asked again."""

    sha256 = "a reader"

    def __init__(self, *lines: Line, after: str) -> None:
        self._lines, self._after = lines, after
        self.looked: list[tuple[int, int]] = []

    def read(self, image: ImageU8) -> list[Line]:
        self.looked.append(image.shape[1::-1])
        return list(self._lines)

    def read_at(self, image: ImageU8, places: Sequence[Line]) -> list[Line]:
        self.looked.append(image.shape[1::-1])
        return [replace(place, text=self._after) for place in places]
