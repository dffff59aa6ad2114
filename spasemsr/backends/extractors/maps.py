"""FeatureExtractor: maps of one value for each cell of 8 px, in [0, 1], what stands for HED's edges and for depth.

A map is averaged over latent cells when it is made, which is all that a method reads of it: no thin edge is lost.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from spasemsr.backends.extractors.filter_bank import blur, pool, whole_cells
from spasemsr.backends.extractors.spec import CELL
from spasemsr.backends.protocols import Array
from spasemsr.pixels import ImageU8

STRONG = 0.25  # a gradient of this size, per pixel, is an edge beyond doubt
NEAR, FAR = 1.0, 4.0  # deviations of the two blurs whose difference tells sharp from soft


class Edges:
    """Sobel gradients of luma, float16 (1, H / 8, W / 8): how much of a cell is edge.

    In the place of HED, which knows contours of objects from texture; this does not.
    """

    channels = 1

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the map of an image of this size."""
        return 1, height // CELL, width // CELL

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> float16 (1, H // 8, W // 8) in [0, 1]."""
        return [cell_means(np.clip(gradient(luma(image)) / STRONG, 0.0, 1.0)) for image in images]


class Sharpness:
    """How sharp each place is, float16 (1, H / 8, W / 8): a depth cue that one photograph gives without a network.

    Not depth: what is in focus is 1, what is blurred or flat is 0, wherever it stands.
    """

    channels = 1

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the map of an image of this size."""
        return 1, height // CELL, width // CELL

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> float16 (1, H // 8, W // 8) in [0, 1]."""
        return [self._extract(luma(image)) for image in images]

    def _extract(self, plane: np.ndarray) -> Array:
        """The share of the detail below FAR pixels that is finer than NEAR pixels, over a neighbourhood of cells."""
        fine, detail = (blur((plane - blur(plane, sigma)) ** 2, CELL) for sigma in (NEAR, FAR))
        return cell_means(np.sqrt(fine / (detail + 1e-6)).clip(0.0, 1.0))


def luma(image: ImageU8) -> np.ndarray:
    """(H, W, 3) u8 -> (H, W) float32 in [0, 1], cut to whole cells. Raises ValueError where there is none."""
    weights = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
    return whole_cells(image).astype(np.float32) @ weights


def gradient(plane: np.ndarray) -> np.ndarray:
    """The length of the Sobel gradient, per pixel."""
    across, down = (cv2.Sobel(plane, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return np.hypot(across, down)


def cell_means(plane: np.ndarray) -> Array:
    """(H, W) -> float16 (1, H / 8, W / 8), means of cells."""
    return pool(plane).astype(np.float16)[None]


MapKind = Literal["edges", "sharpness"]


def build_map(kind: MapKind) -> Edges | Sharpness:
    """The map of this name."""
    return Edges() if kind == "edges" else Sharpness()
