"""The network of ST-LPIPS (Ghildyal and Liu, ECCV 2022): AlexNet and its weights for distances, shift-tolerant.

d(x, y) = sum_l mean_hw(w_l . (f_l(x) - f_l(y))^2), with f_l the unit features after AlexNet's five ReLUs; every step
that halves the image blurs first, so that a shift by a pixel or two, which nobody sees, costs little. Written from the
paper; the weights come from the package that its authors publish (`stlpips-alex` of `spasemsr models list`), read in
place and checked tensor by tensor.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.networks.spec import STLPIPS
from spasemsr.errors import UserError
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import load_strictly, read_state_dict

_CONVOLUTIONS = ((3, 64, 11, 2), (64, 192, 5, 2), (192, 384, 3, 1), (384, 256, 3, 1), (256, 256, 3, 1))
_NAMES = ("net.slice1.0", "net.slice2.5", "net.slice3.9", "net.slice4.11", "net.slice5.13")  # in the file
_BLURS = ("net.slice1.1", "net.slice2.4", "net.slice3.8")
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # LPIPS's mean and deviation of RGB in [-1, 1]


class ShiftTolerantNetwork(nn.Module):
    """(B, 3, H, W) in [-1, 1] and the features of the same number of other images -> the mean distance, a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, side, padding=padding) for i, o, side, padding in _CONVOLUTIONS
        )
        self.heads = nn.ModuleList(nn.Conv2d(o, 1, 1, bias=False) for _, o, _, _ in _CONVOLUTIONS)

    def forward(self, one: Tensor, features_of_other: list[Tensor]) -> Tensor:
        pairs = zip(self.features(one), features_of_other, strict=True)
        return sum(head((a - b) ** 2).mean() for head, (a, b) in zip(self.heads, pairs, strict=True))

    def features(self, image: Tensor) -> list[Tensor]:
        """After each of the five ReLUs, every pixel of unit length over channels."""
        x = (image - image.new_tensor(_SHIFT)[:, None, None]) / image.new_tensor(_SCALE)[:, None, None]
        found = []
        for index, convolution in enumerate(self.convolutions):
            if index in (1, 2):
                x = _halve(functional.max_pool2d(x, 3, 1))
            x = convolution(x)
            x = functional.relu(_halve(x) if index == 0 else x)
            found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return found


def load_stlpips(path: Path | None = None) -> ShiftTolerantNetwork:
    """The frozen network with the weights of a file, the registry's if none is given.

    Raises UserError where they are absent or of another model.
    """
    path = path or locate(STLPIPS).path
    network = ShiftTolerantNetwork()
    load_strictly(network, _renamed(read_state_dict(path), str(path)), str(path))
    return network.eval().requires_grad_(False)


def _renamed(state: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The file's tensors under the names of `_build`; its constants must be those of the paper and are left out."""
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


def _halve(x: Tensor) -> Tensor:
    """Blur by 1 2 1 in both directions, then every second pixel; two pixels are mirrored at each border."""
    tap = x.new_tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(tap, tap).expand(x.shape[1], 1, 3, 3)
    for axis in (2, 3):  # by hand: functional.pad has no deterministic gradient on a GPU, and torch refuses it there
        first, last = x.narrow(axis, 1, 2).flip(axis), x.narrow(axis, x.shape[axis] - 3, 2).flip(axis)
        x = torch.cat([first, x, last], axis)
    return functional.conv2d(x, kernel, stride=2, groups=x.shape[1])
