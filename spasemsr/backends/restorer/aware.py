"""The embedded restorer: one pass of a small network conditioned on how degraded the whole picture is.

A large picture goes through in tiles, but it is judged once, as a whole, and the margin covers the network's view: the
result is that of one pass. Tiles are as few and as even as memory allows, since margins are computed and thrown away.
Weights lie beside this file, in half precision; computing is in float32.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.backends.networks.runtime import choose_device
from spasemsr.backends.restorer.spec import AWARE, AWARE_SHARP
from spasemsr.determinism import torch_threads
from spasemsr.errors import UserError
from spasemsr.images.quality import measure
from spasemsr.pixels import ImageU8, to_tensor
from spasemsr.weights.tensors import load_strictly, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor

    from spasemsr.backends.restorer.aware_network import AwareNetwork

SCALE, TILE = 4, 512  # lr pixels a side of a tile that is square; others have no more pixels, with their margins
LATTICE_SHARE, LATTICE_FROM = 0.5, 0.2  # at sharpness 1, and the sharpness from which on


class AwareRestorer:
    """lr -> bicubic and what the network adds to it.

    `sharpness` in [0, 1] is the share of the weights trained to look like a photograph in the mean of both (network
    interpolation: Wang et al. 2018, ESRGAN 3.4).
    """

    def __init__(self, device: str = "auto", tile: int = TILE, sharpness: float = 0.0) -> None:
        self._device, self._tile, self._sharpness = device, tile, sharpness

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

    def _restore(self, image: ImageU8) -> ImageU8:
        from spasemsr.backends.restorer.aware_bands import pixels_in_bands, residual_in_bands
        from spasemsr.backends.restorer.aware_network import REACH

        lr_13hw = to_tensor(image).to(choose_device(self._device))
        with torch_threads(1):  # sums over the whole picture, whose bits would depend on the number
            changes = self._network.modulation(lr_13hw, lr_13hw.new_tensor([measures_of(image)]))
        height, width = image.shape[:2]
        restored = np.empty((height * SCALE, width * SCALE, 3), np.uint8)
        for (top, bottom), (left, right) in even_tiles(height, width, self._tile, REACH):
            y, x = max(top - REACH, 0), max(left - REACH, 0)
            window = lr_13hw[..., y : bottom + REACH, x : right + REACH]
            residual = _without_lattice(residual_in_bands(self._network, window, changes), self._sharpness)
            large = pixels_in_bands(residual, window, without_grid=self._sharpness > 0)
            inner = large[(top - y) * SCALE : (bottom - y) * SCALE, (left - x) * SCALE : (right - x) * SCALE]
            restored[top * SCALE : bottom * SCALE, left * SCALE : right * SCALE] = inner
        return restored

    @cached_property
    def _network(self) -> "AwareNetwork":
        import torch

        from spasemsr.backends.restorer.aware_network import AwareNetwork

        network = AwareNetwork()
        shares = {AWARE: 1 - self._sharpness, AWARE_SHARP: self._sharpness}
        states = [(share, read_state_dict(path)) for path, share in shares.items() if share]
        names = states[0][1]
        mean = {name: torch.stack([share * state[name].float() for share, state in states]).sum(0) for name in names}
        load_strictly(network, mean, " and ".join(str(path) for path, share in shares.items() if share))
        network = network.requires_grad_(False).eval().to(choose_device(self._device))
        return network.to(memory_format=torch.channels_last)


Span = tuple[int, int]  # first pixel, and the one after the last


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


def _without_lattice(residual_13HW: "Tensor", sharpness: float) -> "Tensor":
    """Sharp residuals with half of what alternates from pixel to pixel taken away, less towards `LATTICE_FROM`.

    The losses of the sharp weights blur before they halve an image, so nothing kept a lattice of two pixels away. On
    ten photographs (`camera`) this is worth 0.13 dB at 0.7 and 0.3 dB at 0.9, and ST-LPIPS is the same or better.
    """
    import torch
    from torch.nn import functional

    share = LATTICE_SHARE * (sharpness - LATTICE_FROM) / (1 - LATTICE_FROM)
    if share <= 0:
        return residual_13HW
    line = torch.tensor([0.25, 0.5, 0.25], device=residual_13HW.device)
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    blurred = functional.conv2d(functional.pad(residual_13HW, [1] * 4, mode="replicate"), kernel, groups=3)
    return residual_13HW + share * (blurred - residual_13HW)


def measures_of(lr: ImageU8) -> list[float]:
    """Noise, sharpness and blocking of (u, v, 3) u8, each about 0 to 1: the network's input beside the pixels."""
    quality = measure(lr)
    return [min(quality.noise / 25, 2.0), quality.sharpness, min(quality.blocking - 1, 2.0)]
