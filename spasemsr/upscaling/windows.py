"""Windows of a large image: where they lie, how they are blended, what noise and boxes they see.

A window is restored as an image of its own (inside it the method stitches tiles of its latent), so memory depends on
the window and not on the image. Neighbours overlap; the margin next to an inner border, where a network lacks context,
is thrown away and a ramp leads from one window to the next. Noise is a field over the whole image that each window sees
its part of, so neighbours start alike and a seam has nothing to show. u v are lr pixels, H W pixels of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spasemsr.methods.noise import Noise
from spasemsr.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor

    from spasemsr.diffusion.tiling import TileMap

ALIGN = 16  # lr pixels: 64 of the result, one cell of the network's coarsest level, so windows see the same grid
MARGIN = 16  # lr pixels next to an inner border that are not used
RAMP = 32  # lr pixels over which one window gives way to the next
OVERLAP = 2 * MARGIN + RAMP
MIN_SIDE = 192  # lr pixels of the smallest window: most of it must be more than overlap
_BLOCK = 32  # latent cells a side of a block of noise
_STRIP = 256  # rows of the result that are added at a time


@dataclass(frozen=True)
class Span:
    """One window along one axis: lr pixels start..end, and its weight for every pixel of the result, (S (end-start),).

    The weights of all spans of an axis add up to 1 everywhere.
    """

    start: int
    end: int
    weights: npt.NDArray[np.float32]

    def owns(self, place: float) -> bool:
        """Whether a place along the axis, in lr pixels, has at least half of its weight here."""
        if not self.start <= place < self.end:
            return False
        scale = len(self.weights) // (self.end - self.start)
        return bool(self.weights[int((place - self.start) * scale)] >= 0.5)


@dataclass(frozen=True)
class Window:
    """A window of the image: rows and columns."""

    rows: Span
    columns: Span

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in lr pixels."""
        return self.rows.end - self.rows.start, self.columns.end - self.columns.start

    def crop(self, pixels: npt.NDArray) -> npt.NDArray:
        """Its part of lr-sized pixels (u, v, ...)."""
        return pixels[self.rows.start : self.rows.end, self.columns.start : self.columns.end]

    def seen(self, box: tuple[int, int, int, int], scale: int) -> tuple[int, int, int, int]:
        """A box in pixels of the whole result (left, top, right, bottom) in those of the window's."""
        left, top, right, bottom = box
        x, y = self.columns.start * scale, self.rows.start * scale
        return left - x, top - y, right - x, bottom - y

    def in_picture(
        self, box: tuple[float, float, float, float], size: Sequence[int]
    ) -> tuple[float, float, float, float]:
        """A box of the window, x0 y0 x1 y1 in [0, 1] of it, in those of the picture of (height, width) lr pixels."""
        height, width = size
        tall, wide = self.size
        x0, x1 = ((self.columns.start + side * wide) / width for side in box[::2])
        y0, y1 = ((self.rows.start + side * tall) / height for side in box[1::2])
        return x0, y0, x1, y1

    def owns(self, row: float, column: float) -> bool:
        """Whether a place of the picture, in lr pixels, is this window's more than its neighbours'."""
        return self.rows.owns(row) and self.columns.owns(column)


def plan(height: int, width: int, window_height: int, window_width: int, scale: int) -> list[Window]:
    """Windows in reading order that cover an image of height x width lr pixels; one when it fits."""
    rows, columns = spans(height, window_height, scale), spans(width, window_width, scale)
    return [Window(row, column) for row in rows for column in columns]


def spans(length: int, window: int, scale: int) -> list[Span]:
    """Evenly spread windows of about `window` lr pixels along one axis, at least OVERLAP shared between neighbours."""
    if length <= window:
        return [Span(0, length, np.ones(length * scale, np.float32))]
    window = max(window, MIN_SIDE) // ALIGN * ALIGN
    count = -(-(length - OVERLAP) // (window - OVERLAP))
    step = (length - window) / (count - 1)
    starts = [min(int(index * step) // ALIGN * ALIGN, length - 1) for index in range(count)]
    ends = [*(start + window for start in starts[:-1]), length]
    middles = [(start + end) / 2 for start, end in zip(starts[1:], ends[:-1], strict=True)]
    place = (np.arange(length * scale, dtype=np.float32) + 0.5) / scale
    rising = [np.clip((place - middle) / RAMP + 0.5, 0.0, 1.0) for middle in middles]
    weights = [
        (rising[i - 1] if i > 0 else 1.0) * (1.0 - rising[i] if i < count - 1 else 1.0) * np.ones_like(place)
        for i in range(count)
    ]
    return [
        Span(start, end, weight[start * scale : end * scale].astype(np.float32))
        for start, end, weight in zip(starts, ends, weights, strict=True)
    ]


def paste(
    canvas: npt.NDArray[np.uint16],
    window: Window,
    restored: npt.NDArray[np.float32],
    scale: int,
    run_strips: TileMap = map,
) -> None:
    """Add a window's result (H, W, C) in [0, 1], by its weights, to the 16-bit canvas of the whole image.

    `run_strips` works through strips of rows: `map`, or that of a thread pool.
    """
    rows, columns = window.rows, window.columns
    whole = canvas[rows.start * scale : rows.end * scale, columns.start * scale : columns.end * scale]

    def strip(first: int) -> None:
        part = slice(first, first + _STRIP)
        weights = rows.weights[part, None, None] * columns.weights[None, :, None]
        share = np.rint(restored[part] * (weights * np.float32(65535))).astype(np.uint16)
        # rounding may carry the sum of four shares over the top
        np.minimum(whole[part].astype(np.uint32) + share, 65535, out=whole[part], casting="unsafe")

    for _ in run_strips(strip, range(0, len(restored), _STRIP)):
        pass


@dataclass(frozen=True)
class FieldNoise(Noise):
    """Noise as a function of place: what a window at latent cell (y, x) draws is its part of one endless field."""

    y: int
    x: int

    def gaussian(self, purpose: str, keys: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Standard normal (1, C, h, w) float32; `keys` does not matter, there is one image."""
        import torch

        channels, height, width = shape
        out = np.empty((channels, height, width), np.float32)
        for row in range(self.y // _BLOCK, -(-(self.y + height) // _BLOCK)):
            for column in range(self.x // _BLOCK, -(-(self.x + width) // _BLOCK)):
                draw = generator(self.seed, purpose, self.step, row, column)
                block = draw.standard_normal((channels, _BLOCK, _BLOCK), dtype=np.float32)
                top, left = row * _BLOCK - self.y, column * _BLOCK - self.x
                place = out[:, max(top, 0) : top + _BLOCK, max(left, 0) : left + _BLOCK]
                place[:] = block[:, max(-top, 0) :, max(-left, 0) :][:, : place.shape[1], : place.shape[2]]
        return torch.from_numpy(out)[None]
