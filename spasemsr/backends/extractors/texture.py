"""FeatureExtractor: a label map of textures, what stands for a semantic segmenter where no network is to be downloaded.

A segmenter's map conditions the image's diffusion on what kind of thing fills a region, so that it paints the right
texture there. Names of things carry little about texture; here a label is the texture itself: how strong it is, in four
levels, and which way it runs, in four directions. One label for each cell of 8 px, measured on its 3x3 cells.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from spasemsr.backends.extractors.filter_bank import CELL, FilterBank
from spasemsr.backends.protocols import Array
from spasemsr.pixels import ImageU8

LEVELS = (-0.67, 0.0, 0.67)  # standardised log energies: quarters of all cells, were they normal
ENERGY, ORIENTATIONS = 3, slice(10, 14)  # channels of the filter bank: gradients, and orientations at 8 px
CLASSES = (len(LEVELS) + 1) * 4


class TextureClasses:
    """uint8 (1, H / 8, W / 8), labels 0..15: 4 times the level of energy plus the direction of edges."""

    def __init__(self) -> None:
        self._bank = FilterBank(ORIENTATIONS.stop)

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the labels of an image of this size."""
        return 1, height // CELL, width // CELL

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> uint8 (1, H // 8, W // 8)."""
        return [labels_of(features) for features in self._bank.extract(images)]


def labels_of(features_Chw: Array) -> Array:
    """Responses of the filter bank -> labels, (1, h, w) uint8."""
    smooth = [cv2.blur(plane.astype(np.float32), (3, 3), borderType=cv2.BORDER_REPLICATE) for plane in features_Chw]
    level = np.digitize(smooth[ENERGY], LEVELS)
    direction = np.stack(smooth[ORIENTATIONS]).argmax(axis=0)
    return (4 * level + direction).astype(np.uint8)[None]
