"""Text in a picture keeps what it reads: it is restored faithfully, and read before and after.

A network that invents detail invents letters too. Lines are looked for in the restorer's picture, as objects are. Each
that can be read there becomes a box with the dial at its faithful end, over all other strengths, and the reading there
is compared with that of the result. `text: free` leaves all this out.
"""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.backends.text import build_reader
from spasemsr.backends.text.reader import Line, TextReader
from spasemsr.pixels import ImageU8, to_eight_bits
from spasemsr.upscaling.regions import RAMP, Region
from spasemsr.upscaling.settings import Corners, Settings

TAG, FAITHFUL = "text", 0.0  # of the boxes, and their dial
SURE = 0.5  # mean probability of its characters from which on a line counts as read
LEAST = 2  # letters and digits; less is found in any texture
SAID = 3  # lines that a warning quotes


@dataclass(frozen=True)
class Reading:
    """A line's box, x0 y0 x1 y1 in [0, 1], and what it reads before and after."""

    box: Corners
    before: str
    after: str

    @property
    def alike(self) -> float:
        """Share of characters that both have in the same order, 0 to 1 (Ratcliff and Obershelp)."""
        before, after = _plain(self.before), _plain(self.after)
        return difflib.SequenceMatcher(None, before, after, autojunk=False).ratio()

    @property
    def changed(self) -> bool:
        """Whether it reads otherwise; blanks, and small letters for large ones, are no difference."""
        return _plain(self.before) != _plain(self.after)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready values."""
        box = [round(side, 4) for side in self.box]
        return {
            "box": box, "before": self.before, "after": self.after, "alike": round(self.alike, 4),
            "changed": self.changed,
        }  # fmt: skip


class Lettering:
    """The lines of one picture that can be read before the model restores it."""

    def __init__(self, reader: TextReader, before: ImageU8) -> None:
        """`before` (H, W, 3) is the picture as the restorer enlarges it."""
        self._reader, self._size = reader, before.shape[1::-1]
        self._lines = [line for line in reader.read(before) if _is_read(line)]

    def regions(self, height: int, width: int) -> tuple[Region, ...]:
        """Boxes in a result of height x width pixels, grown by what they give way to their surroundings over."""
        margin = np.array([-1, -1, 1, 1]) * (RAMP + 1) / np.array([width, height] * 2)
        grown = [np.clip(line.box + margin, 0.0, 1.0).tolist() for line in self._lines]
        return tuple(Region(TAG, FAITHFUL, (x0, y0, x1, y1)) for x0, y0, x1, y1 in grown)

    def readings(self, canvas: npt.NDArray[np.uint16]) -> tuple[Reading, ...]:
        """What each line reads in the result, (H, W, 3) uint16, seen at the size in which it was found."""
        if not self._lines:
            return ()
        if canvas.shape[1::-1] != self._size:
            canvas = cv2.resize(canvas, self._size, interpolation=cv2.INTER_AREA)
        after = self._reader.read_at(to_eight_bits(canvas), self._lines)
        return tuple(Reading(line.box, line.text, found.text) for line, found in zip(self._lines, after, strict=True))


def reader_for(settings: Settings) -> TextReader | None:
    """What finds text, if it is to be safe and its package is here; see `build_reader`."""
    return build_reader() if settings.text == "safe" else None


def warnings(readings: Sequence[Reading]) -> list[str]:
    """What a person should know: lines that read otherwise after than before, in one sentence, or nothing."""
    changed = [reading for reading in readings if reading.changed]
    if not changed:
        return []
    quoted = [f'"{reading.before}" became "{reading.after}"' for reading in changed[:SAID]]
    more = [f"{len(changed) - SAID} more"] if len(changed) > SAID else []
    lines = "1 line of text reads" if len(changed) == 1 else f"{len(changed)} lines of text read"
    return [f"{lines} otherwise than before: {', '.join([*quoted, *more])}"]


def _is_read(line: Line) -> bool:
    return line.score >= SURE and sum(character.isalnum() for character in line.text) >= LEAST


def _plain(text: str) -> str:
    """What is compared: characters in their usual form and case, without blanks."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
