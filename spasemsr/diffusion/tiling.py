"""Tiles: how a latent larger than the network's window is cut, weighted and put together again, and its boxes with it.

Tiles overlap; the last row and column are shifted inward, so all have one size. The prediction at a cell is the
weighted mean over the tiles that hold it, with a Gaussian that is highest in a tile's centre. Shapes: B batch,
C channels, h w latent cells, N objects.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spasemsr.errors import UserError

SIGMA = 0.1  # of the tile's side
MIN_VISIBLE = 0.10  # an object is dropped from a tile that shows less than this share of its box
MIN_COVER = 0.01  # ... or whose visible part covers less than this share of the tile

CELLS = 8 * 24**2  # latent cells that share a call of the network; on a CPU a larger batch is not faster

TileMap = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]  # `map`, or the map of a thread pool


@dataclass(frozen=True)
class Tile:
    """A window of the latent: rows y..y+height, columns x..x+width, in latent cells."""

    y: int
    x: int
    height: int
    width: int

    def crop(self, tensor_BChw: Tensor, cell: int = 1) -> Tensor:
        """The window of a tensor that has `cell` pixels per latent cell."""
        return tensor_BChw[
            ...,
            self.y * cell : (self.y + self.height) * cell,
            self.x * cell : (self.x + self.width) * cell,
        ]


def tile_grid(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles that cover a latent, in reading order; one tile when it fits. Raises UserError for overlap >= tile."""
    if overlap >= tile:
        raise UserError(f"sample.tile_overlap = {overlap} must be below sample.tile = {tile}.", "Correct either.")
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    return [Tile(y, x, min(tile, height), min(tile, width)) for y in rows for x in columns]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """First cells of the tiles along one axis; the last one ends at the border."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def touches(tile: Tile, box: tuple[int, int, int, int], cell: int) -> bool:
    """Whether a tile has a cell, `cell` pixels a side, in which a box lies: left, top, right, bottom in pixels."""
    left, top, right, bottom = box
    across = tile.x * cell < right and left < (tile.x + tile.width) * cell
    return across and tile.y * cell < bottom and top < (tile.y + tile.height) * cell


def gaussian_weights(height: int, width: int) -> Tensor:
    """(height, width) weights, exp of minus the squared distance from the centre (n - 1)/2, symmetric on both axes."""
    return torch.outer(_bell(height), _bell(width))


def _bell(length: int) -> Tensor:
    """One axis of the weights; sigma is a share of the side, so far corners keep a small positive weight."""
    centre = (length - 1) / 2
    distance = (torch.arange(length, dtype=torch.float64) - centre) / (SIGMA * length)
    return torch.exp(-0.5 * distance**2).float()


def together(tiles: Sequence[Tile], samples: int) -> list[range]:
    """Indices of the tiles that go through a network in one call, for a batch of so many samples.

    Small tiles spend much of their time between two operations, so up to `CELLS` of them share a call; four or more are
    two calls at least, for two cores. How they are grouped depends on size and number alone: bits depend neither on the
    machine nor on its cores.
    """
    most = max(CELLS // (tiles[0].height * tiles[0].width * samples), 1)
    count = max(-(-len(tiles) // most), min(len(tiles) // 2, 2))
    bounds = [len(tiles) * index // count for index in range(count + 1)]
    return [range(*span) for span in pairwise(bounds)]


def stitch(like_BChw: Tensor, tiles: Sequence[Tile], predictions: Iterable[Tensor]) -> Tensor:
    """The weighted mean of one prediction for each tile, shaped like `like_BChw`; a single tile is passed through.

    The mean is taken in the tiles' order, so its bits do not depend on who computes them when.
    """
    if len(tiles) == 1:
        return next(iter(predictions))
    total = torch.zeros_like(like_BChw)
    weight = torch.zeros_like(like_BChw[:1, :1])
    for tile, prediction in zip(tiles, predictions, strict=True):
        weights = gaussian_weights(tile.height, tile.width).to(like_BChw)
        tile.crop(total).add_(weights * prediction)
        tile.crop(weight).add_(weights)
    return total / weight


def pad_reflect(images_BCHW: Tensor, multiple: int) -> Tensor:
    """Pad bottom and right to multiples by reflection, repeated where the image is smaller than its padding."""
    for axis in (-2, -1):
        size = images_BCHW.shape[axis]
        period = max(2 * (size - 1), 1)
        beyond = torch.arange(size, -(-size // multiple) * multiple, device=images_BCHW.device) % period
        if len(beyond):
            mirrored = images_BCHW.index_select(axis, torch.where(beyond < size, beyond, period - beyond))
            images_BCHW = torch.cat([images_BCHW, mirrored], axis)
    return images_BCHW


def boxes_in_tile(
    boxes_N4: np.ndarray, tile: Tile, height: float, width: float, parts_N: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (x0 y0 x1 y1 in [0, 1] of an image of `height` x `width` latent cells) as a tile sees them.

    Returns the boxes clipped to the tile in tile coordinates, (M, 4) float32, and the indices (M,) of the kept ones,
    in their old order (by score). A tile that holds the whole image, padded or not, keeps every object; a smaller one
    drops those it hardly shows, see the two thresholds above; where `parts` is true the first does not hold, for what
    is the same in every part.
    """
    inside = boxes_seen_from(boxes_N4, tile, height, width)
    clipped = np.clip(inside, 0.0, 1.0)
    if tile.height >= height and tile.width >= width:
        return clipped.astype(np.float32), np.arange(len(clipped))
    visible, whole = _area(clipped), _area(inside)
    enough = visible >= MIN_VISIBLE * whole
    kept = np.flatnonzero((visible >= MIN_COVER) & (enough if parts_N is None else enough | parts_N))
    return clipped[kept].astype(np.float32), kept


def boxes_seen_from(boxes_N4: np.ndarray, tile: Tile, height: float, width: float) -> np.ndarray:
    """Boxes in the coordinates of a tile, (N, 4) float64, neither clipped nor dropped: beyond it they leave [0, 1]."""
    image, origin, extent = (
        np.array([x, y, x, y], dtype=np.float64)  # in latent cells
        for x, y in ((width, height), (tile.x, tile.y), (tile.width, tile.height))
    )
    return (np.asarray(boxes_N4, dtype=np.float64).reshape(-1, 4) * image - origin) / extent


def _area(boxes_N4: np.ndarray) -> np.ndarray:
    """Areas, zero for boxes turned inside out by clipping."""
    sides = np.maximum(boxes_N4[:, 2:] - boxes_N4[:, :2], 0.0)
    return sides[:, 0] * sides[:, 1]
