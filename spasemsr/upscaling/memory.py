"""How much memory an image will take, and the windows that keep it under a limit.

Three parts: what the process holds already (libraries, weights), what one window of the result takes while it is being
restored, or the colour fix when all are, and what the whole result takes. The figures per pixel follow from the shapes
the method works with; they are estimates, on the high side of measured peaks.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import RejectedSample
from spasemsr.upscaling.windows import ALIGN, MIN_SIDE

if TYPE_CHECKING:  # it needs torch
    from spasemsr.methods.protocol import Grid

GIB = 1 << 30
_FLOATS_PER_PIXEL = 8 * 3 * 4  # of a window: lr_up, padded, encoded, decoded and what is between them, RGB float32
_LATENT_COPIES = 10  # start, noise, solver history, prediction and their sums
_WEIGHT_OF_RESULT = 6 + 6 + 6 + 4  # 16-bit canvas, output, its encoding and the file, per pixel of the result
_WEIGHT_OF_CANVAS = 6  # 16-bit, of each further strength that is laid into the result
_WEIGHT_OF_MAP = 12  # float32 sums for the map of deviations
_BESIDE = 3 * GIB // 8  # a tile of the small restorer, or the networks that find text and things
_NETWORK_AUTOENCODER = 3 * GIB  # a convolutional one at full resolution, 1024 px at a time
_DEFAULT_SHARE = 0.75  # of the memory that is free, beside what the process holds already
_CONTAINER = "/sys/fs/cgroup"  # where Linux states a container's limits


@dataclass(frozen=True)
class Budget:
    """The windows for one image, in lr pixels, and the memory they will take, in bytes."""

    window_height: int
    window_width: int
    expected: int
    limit: int

    def __str__(self) -> str:
        return f"{self.expected / GIB:.1f} GB of at most {self.limit / GIB:.1f} GB"


@dataclass(frozen=True)
class Footprint:
    """Bytes a method takes: at rest, for one tile in the network, for a pixel of a window's result, and `beside` it."""

    at_rest: int
    per_tile: int
    per_window_pixel: float
    beside: int = _BESIDE

    @classmethod
    def of(cls, grid: "Grid", sample: SampleSpec, workers: int, restorer: int = 0) -> "Footprint":
        """What follows from the sizes of the network and its latent, and the tiles in work, beside a `restorer`."""
        # GEGLU's hidden states are 8 widths a cell; skips, attention and convolutions take as much again
        per_tile = workers * sample.tile**2 * grid.width * 40 * 4
        branches = 1 if sample.guidance == 1.0 else 2
        cell = 4 * (grid.channels * _LATENT_COPIES + 1.6 * branches * grid.width)
        if grid.learned:
            per_tile += _NETWORK_AUTOENCODER
        at_rest, per_pixel = psutil.Process().memory_info().rss, _FLOATS_PER_PIXEL + cell / grid.cell**2
        return cls(at_rest, per_tile, per_pixel, max(_BESIDE, restorer))


def budget(
    footprint: Footprint, height: int, width: int, scale: int, limit: int | None = None, with_map: bool = False,
    canvases: int = 1, colour: int = 0,
) -> Budget:  # fmt: skip
    """The largest windows that fit. Raises RejectedSample `needs_memory` when even the smallest do not.

    `canvases` of the whole result are held at a time; its `colour` takes so many bytes when no window is in work.
    """
    limit = limit or max(footprint.at_rest + int(free_bytes() * _DEFAULT_SHARE), GIB)
    weight = _WEIGHT_OF_RESULT + (canvases - 1) * _WEIGHT_OF_CANVAS + (_WEIGHT_OF_MAP if with_map else 0)
    result = height * width * scale**2 * weight
    fixed = footprint.at_rest + footprint.per_tile + footprint.beside + result
    coloured = footprint.at_rest + result + colour
    per_lr_pixel = footprint.per_window_pixel * scale**2
    pixels = (limit - fixed) / per_lr_pixel
    smallest = min(height, MIN_SIDE) * min(width, MIN_SIDE)
    if pixels < smallest or coloured > limit:
        needed = max(fixed + smallest * per_lr_pixel, coloured)
        raise RejectedSample(
            "needs_memory",
            f"the {width * scale}x{height * scale} result takes about {needed / GIB:.1f} GB, "
            f"the limit is {limit / GIB:.1f} GB: raise --max-memory, or cut or shrink the picture",
        )
    if pixels >= height * width:
        return Budget(height, width, max(int(fixed + height * width * per_lr_pixel), coloured), limit)
    side = max(int(math.sqrt(pixels)), MIN_SIDE)
    window_width = _aligned(width, min(side, width))
    window_height = _aligned(height, int(pixels / window_width))
    window_width = _aligned(width, int(pixels / window_height))
    expected = fixed + window_height * window_width * per_lr_pixel
    return Budget(window_height, window_width, max(int(expected), coloured), limit)


def _aligned(length: int, window: int) -> int:
    """A window of whole alignment steps along an axis, or the axis."""
    return length if window >= length else max((window - ALIGN) // ALIGN * ALIGN, MIN_SIDE)


def free_bytes() -> int:
    """Memory that may still be taken: the machine's, or that of the container this process runs in.

    Files that a container keeps in memory to read them faster count as its own, but give way to whoever asks.
    """
    free, group = psutil.virtual_memory().available, Path(_CONTAINER)
    with suppress(OSError, ValueError):  # no container, or one that does not say
        limit = int((group / "memory.max").read_text())
        parts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(parts.get("inactive_file", 0))
        free = min(free, max(limit - used, 0))
    return free


def parse_bytes(text: str) -> int:
    """ "4GB", "900 MB", "1.5g" -> bytes. Raises ValueError."""
    units = {"": GIB, "G": GIB, "GB": GIB, "M": 1 << 20, "MB": 1 << 20}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(|[GM]B?)\s*", text.upper())
    if found is None or float(found[1]) == 0:
        raise ValueError(f"{text!r} is no amount of memory")
    return int(float(found[1]) * units[found[2]])


def is_one_tile(size: tuple[int, int], scale: int, cell: int, sampling: SampleSpec) -> bool:
    """Whether a window of (u, v) pixels is sampled in one piece; its sides are padded to a multiple first."""
    from spasemsr.diffusion.tiling import tile_grid
    from spasemsr.methods.latent import MULTIPLE

    rows, columns = (-(-side * scale // MULTIPLE) * MULTIPLE // cell for side in size)
    return len(tile_grid(rows, columns, sampling.tile, sampling.tile_overlap)) == 1


@contextmanager
def refused_for_memory() -> Iterator[None]:
    """A device that has too little memory for a window, as a reason."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        detail = f"the device has too little memory: take a lower --max-memory or a smaller picture ({error})"
        raise RejectedSample("needs_memory", " ".join(detail.split())[:300]) from None
