"""The larger network of the sharp end: an image that looks like a photograph, and means of it and a faithful one.

Its features are 64 channels at the size of the result, a quarter of a gigabyte for a tile. It sees 130 pixels of lr
around each, and from nearly all of them nothing: `MARGIN` of them leave differences of a grey level or two.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.backends.networks.runtime import choose_device
from spasemsr.backends.protocols import Restorer
from spasemsr.backends.restorer.aware_bands import pixels_in_bands
from spasemsr.backends.restorer.spec import CRISP
from spasemsr.backends.restorer.tiles import SCALE, TiledRestorer, restored_in_tiles
from spasemsr.determinism import torch_threads
from spasemsr.pixels import ImageU8, bicubic_upsample, to_tensor
from spasemsr.weights.eight_bits import unpacked
from spasemsr.weights.tensors import load_strictly, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor

    from spasemsr.backends.restorer.crisp_network import CrispNetwork

TILE, MARGIN = 160, 48  # lr pixels a side, and around it
AT_ONCE = 4  # tensors of all features at the size of the result
SHARPENED = 0.3  # of the finest detail, added once more; networks of this kind are taught on images sharpened likewise
SMALL = 128**2  # lr pixels up to which one thread computes: of fewer, some CPUs share out the terms of a sum


def bytes_for(height: int, width: int) -> int:
    """What the features of the largest tile of an image of u x v pixels take at once."""
    from spasemsr.backends.restorer.crisp_network import FEATURES

    return AT_ONCE * FEATURES * 4 * SCALE**2 * min((TILE + 2 * MARGIN) ** 2, height * width)


def sharpened(image_B3HW: "Tensor") -> "Tensor":
    """An image plus `SHARPENED` of what the mean of its 3x3 pixels, weighted 1 2 1 along each axis, leaves of it."""
    from torch.nn import functional

    weights = image_B3HW.new_tensor([0.25, 0.5, 0.25])
    kernel = (weights[:, None] * weights).expand(image_B3HW.shape[1], 1, 3, 3)
    around = functional.pad(image_B3HW, (1, 1, 1, 1), mode="replicate")
    mean = functional.conv2d(around, kernel, groups=image_B3HW.shape[1])
    return image_B3HW + SHARPENED * (image_B3HW - mean)


class CrispRestorer(TiledRestorer):
    """lr -> what the larger network makes of it, with the colours and brightness of lr."""

    def __init__(self, device: str = "auto", tile: int = TILE, weights: Path = CRISP) -> None:
        super().__init__(device, tile)
        self._weights = weights

    def _restore(self, image: ImageU8) -> ImageU8:
        lr_13hw = to_tensor(image).to(choose_device(self._device))
        return restored_in_tiles(lr_13hw, self._tile, MARGIN, self._pixels)

    def _pixels(self, window_13hw: "Tensor") -> ImageU8:
        import torch

        from spasemsr.backends.restorer.aware_network import limited, limits_of

        small = window_13hw.shape[-2] * window_13hw.shape[-1] <= SMALL
        with torch_threads(1 if small else torch.get_num_threads()):
            image = self._network(window_13hw.contiguous(memory_format=torch.channels_last)).contiguous()
        residual = sharpened(image) - bicubic_upsample(window_13hw, SCALE)
        residual = limited(residual, limits_of(window_13hw))  # first of all, so that no grid is seen where lr is flat
        return pixels_in_bands(residual, window_13hw, without_grid=True)

    @cached_property
    def _network(self) -> "CrispNetwork":
        import torch

        from spasemsr.backends.restorer.crisp_network import CrispNetwork

        network = CrispNetwork()
        load_strictly(network, unpacked(read_state_dict(self._weights)), str(self._weights))
        network = network.requires_grad_(False).eval().to(choose_device(self._device))
        return network.to(memory_format=torch.channels_last)


class MeanRestorer:
    """A mean of the images of two restorers, in which the second counts `share`."""

    def __init__(self, first: Restorer, second: Restorer, share: float) -> None:
        self._restorers, self._share = (first, second), share

    def restore(self, images: Sequence[ImageU8], scale: int) -> list[ImageU8]:
        """(u, v, 3) u8 images -> (scale u, scale v, 3) u8."""
        pairs = zip(*(restorer.restore(images, scale) for restorer in self._restorers), strict=True)
        return [self._mean(first, second) for first, second in pairs]

    def _mean(self, first: ImageU8, second: ImageU8) -> ImageU8:
        values = first.astype(np.float32)
        values += np.float32(self._share) * (second.astype(np.float32) - values)
        return np.rint(values, out=values).astype(np.uint8)
