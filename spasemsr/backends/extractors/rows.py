"""FeatureExtractor: an image as a few rows, the whole and each cell of a coarse grid, which attention can read.

What stands for the representation of a recogniser (RAM's, 145 rows of 512) and for the image embedding of CLIP (257
rows of 1280) where no network is to be downloaded. Row 0 is about the whole image, the others go in reading order, so a
row also says where: its two last numbers are the centre of its cell.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from spasemsr.backends.extractors.filter_bank import FilterBank
from spasemsr.backends.protocols import Array
from spasemsr.pixels import ImageU8

COLOURS = 6  # mean and deviation of three colour planes


class FilterRows:
    """float16 (1 + grid^2, channels + 2): responses of the filter bank, averaged over the image and over each cell.

    Like a recogniser's representation it tells textures, colours and structure of a region apart, and it is about what
    the image shows; unlike one it has no names for things.
    """

    def __init__(self, filters: int, grid: int) -> None:
        self._bank, self._grid = FilterBank(filters), grid
        self.channels = filters + 2

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the rows of any image."""
        return 1 + self._grid**2, self.channels

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> float16 (1 + grid^2, channels + 2)."""
        return [rows_of(features.astype(np.float32), self._grid) for features in self._bank.extract(images)]


class ColourLayout:
    """float16 (1 + grid^2, 8): mean and deviation of luma and two colour differences, in the image and in each cell.

    In the place of CLIP's image embedding: which colours are where, which is some of what an image is about.
    """

    channels = COLOURS + 2

    def __init__(self, grid: int) -> None:
        self._grid = grid

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the rows of any image."""
        return 1 + self._grid**2, self.channels

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images -> float16 (1 + grid^2, 8)."""
        return [self._extract(image) for image in images]

    def _extract(self, image: ImageU8) -> Array:
        red, green, blue = image.transpose(2, 0, 1).astype(np.float32) / 255
        planes = np.stack([0.299 * red + 0.587 * green + 0.114 * blue, red - green, (red + green) / 2 - blue])
        means, squares = rows_of(planes, self._grid)[:, :3], rows_of(planes**2, self._grid)
        deviations = np.sqrt(np.maximum(squares[:, :3].astype(np.float32) - means.astype(np.float32) ** 2, 0.0))
        return np.concatenate([means, deviations.astype(np.float16), squares[:, 3:]], axis=1)


def rows_of(planes_Chw: np.ndarray, grid: int) -> Array:
    """Means of the whole and of grid x grid cells in reading order, and their centres: float16 (1 + grid^2, C + 2)."""
    cells = np.stack([cv2.resize(plane, (grid, grid), interpolation=cv2.INTER_AREA) for plane in planes_Chw])
    means = np.concatenate([planes_Chw.mean(axis=(1, 2))[None], cells.reshape(len(cells), -1).T])
    centres = (np.arange(grid) + 0.5) / grid
    places = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.concatenate([means, np.concatenate([[[0.5, 0.5]], places])], axis=1).astype(np.float16)
