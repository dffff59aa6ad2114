"""Metric `stlpips`: Shift-Tolerant LPIPS (Ghildyal and Liu, ECCV 2022), AlexNet, on (H, W, 3) uint8 RGB.

It is not LPIPS: another network with other weights, and its numbers compare only with themselves. Like LPIPS it is the
weighted distance between unit features of a network, d(x, y) = sum_l mean_hw(w_l . (f_l(x) - f_l(y))^2), with f_l of
AlexNet's five ReLUs; unlike it, every step that halves the image blurs first, so that a shift by a pixel or two, which
nobody sees, costs little. Lower is better, 0 is equal.

The network below is written from the paper; its weights come from the package that the paper's authors publish
(`stlpips-alex` of `spasemsr models list`), read in place and checked tensor by tensor.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.pixels import ImageU8
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import load_strictly, read_state_dict

if TYPE_CHECKING:
    from torch import Tensor, nn

SOURCE = "stlpips-alex"
LABEL = "ST-LPIPS"
RECIPE = "AlexNet, shift-tolerant, RGB; not LPIPS"
_SMALLEST = 32  # px a side: below it the last layers see nothing but padding
_CONVOLUTIONS = ((3, 64, 11, 2), (64, 192, 5, 2), (192, 384, 3, 1), (384, 256, 3, 1), (256, 256, 3, 1))
_NAMES = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")  # in the file
_BLURS = ("net.slice1.1", "net.slice2.4", "net.slice3.8")
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS's mean and deviation of RGB in [-1, 1]


class ShiftTolerantDistance:
    """(restored, hr) -> ST-LPIPS."""

    version = "1"

    def __init__(self) -> None:
        """Raises UserError where the weights are absent or not the registry's."""
        self._checkpoint = locate(SOURCE)
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
                self._last = known = content, self.network.features(_tensor(hr))
            return float(self.network(_tensor(restored), known[1]))

    @cached_property
    def network(self) -> Any:
        """The frozen network itself, which a loss may use: `network(x, network.features(y))` in [-1, 1]."""
        path = self._checkpoint.path
        network = _build()
        load_strictly(network, _renamed(read_state_dict(path), str(path)), str(path))
        return network.eval().requires_grad_(False)


def _tensor(image: ImageU8) -> "Tensor":
    """(H, W, 3) u8 -> (1, 3, H, W) float32 in [-1, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1


def _renamed(state: dict[str, "Tensor"], origin: str) -> dict[str, "Tensor"]:
    """The file's tensors under the names of `_build`; its constants must be those of the paper and are left out."""
    import torch

    tap = torch.tensor([1.0, 2.0, 1.0])
    constants = {f"{name}.filt": torch.outer(tap, tap) / 16 for name in _BLURS}
    constants |= {
        "scaling_layer.shift": torch.tensor(_SHIFT)[:, None, None],
        "scaling_layer.scale": torch.tensor(_SCALE)[:, None, None],
    }
    rest = dict(state)
    for name, expected in constants.items():
        found = rest.pop(name, None)
        if not isinstance(found, torch.Tensor) or not bool((found == expected).all()):
            raise UserError(f"{origin}: {name} is not the constant of ST-LPIPS.", "It is another model, or damaged.")
    ours: dict[str, str] = {}
    for index, theirs in enumerate(_NAMES):
        ours |= {f"{theirs}.{part}": f"convolutions.{index}.{part}" for part in ("weight", "bias")}
        ours[f"lin{index}.model.1.weight"] = f"heads.{index}.weight"
    return {ours.get(name, name): tensor for name, tensor in rest.items()}


def _build() -> "nn.Module":
    """The network, with weights still to be filled in."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Distance(nn.Module):
        """(1, 3, H, W) in [-1, 1] and the features of another image -> a scalar."""

        def __init__(self) -> None:
            super().__init__()
            self.convolutions = nn.ModuleList(
                nn.Conv2d(i, o, side, padding=padding) for i, o, side, padding in _CONVOLUTIONS
            )
            self.heads = nn.ModuleList(nn.Conv2d(o, 1, 1, bias=False) for _, o, _, _ in _CONVOLUTIONS)

        def forward(self, one: "Tensor", features_of_other: "list[Tensor]") -> "Tensor":
            pairs = zip(self.features(one), features_of_other, strict=True)
            return sum(head((a - b) ** 2).mean() for head, (a, b) in zip(self.heads, pairs, strict=True))

        def features(self, image: "Tensor") -> "list[Tensor]":
            """After each of the five ReLUs, every pixel of unit length over channels."""
            x = (image - torch.tensor(_SHIFT)[:, None, None]) / torch.tensor(_SCALE)[:, None, None]
            found = []
            for index, convolution in enumerate(self.convolutions):
                if index in (1, 2):
                    x = halve(F.max_pool2d(x, 3, 1))
                x = convolution(x)
                x = F.relu(halve(x) if index == 0 else x)
                found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
            return found

    def halve(x: "Tensor") -> "Tensor":
        """Blur by 1 2 1 in both directions, then every second pixel; two pixels are mirrored at each border."""
        tap = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(tap, tap).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])

    return Distance()
