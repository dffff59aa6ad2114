"""The embedded restorer: one pass of a small network conditioned on how degraded the whole picture is.

A large picture goes through in tiles (tiles.py), but it is judged once, as a whole. Weights lie beside this file, in
half precision; computing is in float32.
"""

from functools import cached_property
from typing import TYPE_CHECKING

from spasemsr.backends.networks.runtime import choose_device
from spasemsr.backends.restorer.spec import AWARE, AWARE_SHARP
from spasemsr.backends.restorer.tiles import TILE, TiledRestorer, restored_in_tiles
from spasemsr.determinism import torch_threads
from spasemsr.images.quality import measure
from spasemsr.pixels import ImageU8, to_tensor
from spasemsr.weights.tensors import load_strictly, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor

    from spasemsr.backends.restorer.aware_network import AwareNetwork

LATTICE_SHARE, LATTICE_FROM = 0.5, 0.2  # at sharpness 1, and the sharpness from which on


class AwareRestorer(TiledRestorer):
    """lr -> bicubic and what the network adds to it.

    `sharpness` in [0, 1] is the share of the weights trained to look like a photograph in the mean of both (network
    interpolation: Wang et al. 2018, ESRGAN 3.4).
    """

    def __init__(self, device: str = "auto", tile: int = TILE, sharpness: float = 0.0) -> None:
        super().__init__(device, tile)
        self._sharpness = sharpness

    def _restore(self, image: ImageU8) -> ImageU8:
        from spasemsr.backends.restorer.aware_bands import pixels_in_bands, residual_in_bands
        from spasemsr.backends.restorer.aware_network import REACH

        lr_13hw = to_tensor(image).to(choose_device(self._device))
        with torch_threads(1):  # sums over the whole picture, whose bits would depend on the number
            changes = self._network.modulation(lr_13hw, lr_13hw.new_tensor([measures_of(image)]))

        def pixels(window_13hw: "Tensor") -> ImageU8:
            residual = _without_lattice(residual_in_bands(self._network, window_13hw, changes), self._sharpness)
            return pixels_in_bands(residual, window_13hw, without_grid=self._sharpness > 0)

        return restored_in_tiles(lr_13hw, self._tile, REACH, pixels)

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
