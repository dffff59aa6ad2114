"""Large pictures in tiles whose margins cover all that a network sees: the result is that of one pass.

Tiles are as few and as even as memory allows, since margins are computed and thrown away.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8

if TYPE_CHECKING:
    from torch import Tensor

SCALE, TILE = 4, 512  # lr pixels a side of a tile that is square; others have no more pixels, with their margins

Span = tuple[int, int]  # first pixel, and the one after the last


class TiledRestorer(ABC):
    """A network that ships, which sees a picture in tiles of at most `tile` lr pixels a side."""

    def __init__(self, device: str, tile: int) -> None:
        self._device, self._tile = device, tile

    def restore(self, images: Sequence[ImageU8], scale: int) -> list[ImageU8]:
        """(u, v, 3) u8 images -> (4u, 4v, 3) u8, each a function of its own image alone.

        Raises UserError for another scale.
        """
        import torch

        if scale != SCALE:
            remedy = "Name another kind: restore.kind in params.yaml."
            raise UserError(f"The restorer aware enlarges {SCALE} times, the pipeline {scale} times.", remedy)
        with torch.inference_mode():
            return [self._restore(image) for image in images]

    @abstractmethod
    def _restore(self, image: ImageU8) -> ImageU8:
        """One (u, v, 3) image -> (4u, 4v, 3)."""


def even_tiles(height: int, width: int, tile: int, margin: int) -> list[tuple[Span, Span]]:
    """Rows and columns of the tiles of a picture, in reading order, that with their margins have fewest pixels.

    None has more pixels than a square of `tile` with a margin on every side.
    """
    most = (tile + 2 * margin) ** 2

    def cuts(length: int) -> list[tuple[list[Span], int, int]]:
        """Each way to cut an axis: its spans, and of these with margins the sum and the longest."""
        found = []
        for count in range(1, -(-length // tile) + 1):
            bounds = [length * index // count for index in range(count + 1)]
            seen = [min(end + margin, length) - max(start - margin, 0) for start, end in pairwise(bounds)]
            found.append((list(pairwise(bounds)), sum(seen), max(seen)))
        return found

    ways = [(a[1] * b[1], a[0], b[0]) for a in cuts(height) for b in cuts(width) if a[2] * b[2] <= most]
    _, rows, columns = min(ways)
    return list(product(rows, columns))


def restored_in_tiles(lr_13uv: "Tensor", tile: int, reach: int, restore: Callable[["Tensor"], ImageU8]) -> ImageU8:
    """(1, 3, u, v) -> (4u, 4v, 3): `restore` of each tile with `reach` pixels of lr around it, put together."""
    height, width = lr_13uv.shape[-2:]
    restored = np.empty((height * SCALE, width * SCALE, 3), np.uint8)
    for (top, bottom), (left, right) in even_tiles(height, width, tile, reach):
        y, x = max(top - reach, 0), max(left - reach, 0)
        large = restore(lr_13uv[..., y : bottom + reach, x : right + reach])
        inner = large[(top - y) * SCALE : (bottom - y) * SCALE, (left - x) * SCALE : (right - x) * SCALE]
        restored[top * SCALE : bottom * SCALE, left * SCALE : right * SCALE] = inner
    return restored
