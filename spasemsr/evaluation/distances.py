"""Metrics `lpips` and `stlpips`: distances of the features of AlexNet, on (H, W, 3) uint8 RGB; lower is better.

LPIPS (Zhang et al., CVPR 2018) is version 0.1, the one that papers print. Shift-Tolerant LPIPS (Ghildyal and Liu, ECCV
2022) is another network with other weights, and its numbers compare only with themselves. Both weights come in packages
(`spasemsr/weights/packages.py`); equal images have the distance 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.backends.networks.spec import LPIPS, STLPIPS
from spasemsr.errors import UserError
from spasemsr.evaluation.sizes import Smallest
from spasemsr.hashing import sha256_file
from spasemsr.pixels import ImageU8
from spasemsr.weights.registry import entry
from spasemsr.weights.store import locate

if TYPE_CHECKING:
    from torch import Tensor

    from spasemsr.backends.networks.stlpips import ShiftTolerantNetwork

SMALLEST = Smallest(32)  # below it the last layers see nothing, or nothing but padding


@dataclass(frozen=True)
class Kind:
    """What distinguishes the two; `model` is the name of the weights in the registry."""

    label: str
    recipe: str
    model: str


KINDS = {
    "lpips": Kind("LPIPS", "AlexNet, version 0.1, RGB", LPIPS),
    "stlpips": Kind("ST-LPIPS", "AlexNet, shift-tolerant, RGB; not LPIPS", STLPIPS),
}


class FeatureDistance:
    """(restored, hr) -> LPIPS or ST-LPIPS."""

    version = "1"

    def __init__(self, name: str) -> None:
        """Raises UserError where the weights are absent or not the registry's."""
        self._name, model = name, KINDS[name].model
        self._path, source = locate(model).path, entry(model).sources[0]
        self.weights = f"{source}, {self._path.name} sha256:{sha256_file(self._path)[:16]}"
        self._last: tuple[bytes, list[Tensor]] = (b"", [])  # hr is compared with one method after the other

    def __call__(self, restored: ImageU8, hr: ImageU8) -> float:
        """Distance of two (H, W, 3) u8 images of one size; a UserError names sizes it is not defined for."""
        import torch

        if restored.shape != hr.shape:
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (restored, hr)]
            what = f"{self._name}: restored is {sizes[0]}, hr is {sizes[1]}."
            raise UserError(what, "Score images of equal size.")
        SMALLEST.require(f"{self._name}: an image", *hr.shape[:2])
        with torch.inference_mode():
            known, content = self._last, hr.tobytes()
            if known[0] != content:  # a local copy: other threads score other images
                self._last = known = content, self._network.features(_tensor(hr))
            return float(self._network(_tensor(restored), known[1]))

    @cached_property
    def _network(self) -> "ShiftTolerantNetwork":
        from spasemsr.backends.networks.lpips import load_lpips
        from spasemsr.backends.networks.stlpips import load_stlpips

        return (load_lpips if self._name == "lpips" else load_stlpips)(self._path)


def _tensor(image: ImageU8) -> "Tensor":
    """(H, W, 3) u8 -> (1, 3, H, W) float32 in [-1, 1]."""
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1
