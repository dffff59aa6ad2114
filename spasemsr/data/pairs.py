"""A photograph's central square and its degraded copy, for whoever compares a model's result with the original."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spasemsr.data.degradation import degrade_variant
from spasemsr.data.spec import MIN_SIDE, DegradationSpec
from spasemsr.errors import RejectedSample
from spasemsr.images.flat import read_image
from spasemsr.images.formats import SUFFIXES
from spasemsr.images.names import is_utf8, shown
from spasemsr.pixels import ImageU8

SCALE, SEED = 4, 20260314  # of every table of the model cards, and of the test set that is built here
_MAX_BYTES, _MAX_PIXELS = 100_000_000, 40_000_000


@dataclass(frozen=True)
class Pair:
    """hr (side, side, 3) and lr (side / 4, side / 4, 3), uint8."""

    key: str
    hr: ImageU8
    lr: ImageU8


def photographs(folder: Path) -> list[Path]:
    """The image files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def read_photograph(path: Path) -> ImageU8:
    """(H, W, 3) uint8. Raises RejectedSample for a file that is absent, damaged, no image, or too large."""
    return read_image(path, _MAX_BYTES, _MAX_PIXELS).pixels


def make_pair(path: Path, preset: str, most: int) -> Pair:
    """The central square of at most `most` px, a multiple of 4, degraded by a preset.

    Raises RejectedSample for a file that is no photograph, for one smaller than degradations need, and for a name that
    no seed can be drawn from.
    """
    if not is_utf8(path.name):
        raise RejectedSample("name_not_utf8", f"rename it: {shown(path.name)} is not UTF-8")
    pixels = read_photograph(path)
    side = min(most, *pixels.shape[:2]) // SCALE * SCALE
    if side < MIN_SIDE:
        raise RejectedSample("too_small", f"{pixels.shape[1]}x{pixels.shape[0]} pixels; {MIN_SIDE} a side are needed")
    y, x = ((length - side) // 2 for length in pixels.shape[:2])
    hr = np.ascontiguousarray(pixels[y : y + side, x : x + side])
    spec = DegradationSpec.model_validate({"preset": preset})
    return Pair(path.stem, hr, degrade_variant(hr, spec, SCALE, SEED, path.stem, 0).lr)
