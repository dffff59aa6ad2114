"""Metric `stlpips`: Shift-Tolerant LPIPS (Ghildyal and Liu, ECCV 2022), AlexNet, on (H, W, 3) uint8 RGB.

It is not LPIPS: another network (`backends/networks/stlpips.py`) with other weights, and its numbers compare only with
themselves. Lower is better, 0 is equal.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.backends.networks.spec import STLPIPS
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.pixels import ImageU8
from spasemsr.weights.store import locate

if TYPE_CHECKING:
    from torch import Tensor

    from spasemsr.backends.networks.stlpips import ShiftTolerantNetwork

LABEL = "ST-LPIPS"
RECIPE = "AlexNet, shift-tolerant, RGB; not LPIPS"
_SMALLEST = 32  # px a side: below it the last layers see nothing but padding


class ShiftTolerantDistance:
    """(restored, hr) -> ST-LPIPS."""

    version = "1"

    def __init__(self) -> None:
        """Raises UserError where the weights are absent or not the registry's."""
        self._checkpoint = locate(STLPIPS)
        self.weights = f"{self._checkpoint.path.name} sha256:{sha256_file(self._checkpoint.path)[:16]}"
        self._last: tuple[bytes, list[Tensor]] = (b"", [])  # hr is compared with one method after the other

    def __call__(self, restored: ImageU8, hr: ImageU8) -> float:
        """Distance of two (H, W, 3) u8 images of one size; a UserError names sizes it is not defined for."""
        import torch

        if restored.shape != hr.shape or min(hr.shape[:2]) < _SMALLEST:
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (restored, hr)]
            what = f"stlpips: restored is {sizes[0]}, hr is {sizes[1]}."
            raise UserError(what, f"Score images of equal size, at least {_SMALLEST} px a side.")
        with torch.inference_mode():
            known, content = self._last, hr.tobytes()
            if known[0] != content:  # a local copy: other threads score other images
                self._last = known = content, self._network.features(_tensor(hr))
            return float(self._network(_tensor(restored), known[1]))

    @cached_property
    def _network(self) -> "ShiftTolerantNetwork":
        from spasemsr.backends.networks.stlpips import load_stlpips

        return load_stlpips(self._checkpoint.path)


def _tensor(image: ImageU8) -> "Tensor":
    """(H, W, 3) u8 -> (1, 3, H, W) float32 in [-1, 1]."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1
