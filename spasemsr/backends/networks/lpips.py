"""The network of LPIPS (Zhang et al., CVPR 2018), version 0.1: AlexNet and its weights for distances.

d(x, y) = sum_l mean_hw(w_l . (f_l(x) - f_l(y))^2), with f_l the unit features after AlexNet's five ReLUs. ST-LPIPS is
this with another way to halve an image and weights of its own, so what both do is there (`stlpips.py`). The weights
are those of LPIPS's authors as a package of JAX's carries them (`lpips-alex` of `spasemsr models list`).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spasemsr.backends.networks.stlpips import ShiftTolerantNetwork
from spasemsr.weights.arrays import read_arrays
from spasemsr.weights.tensors import load_strictly

_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in [-1, 1]


class LpipsNetwork(ShiftTolerantNetwork):
    """(B, 3, H, W) in [-1, 1] and the features of the same number of other images -> the mean distance, a scalar."""

    def features(self, image: Tensor) -> list[Tensor]:
        """After each of the five ReLUs, every pixel of unit length over channels; AlexNet's own strides, no blur."""
        x = (image - image.new_tensor(_MEAN)[:, None, None]) / image.new_tensor(_DEVIATION)[:, None, None]
        found = []
        for index, layer in enumerate(self.convolutions):
            if index in (1, 2):
                x = functional.max_pool2d(x, 3, 2)
            stride = 4 if index == 0 else 1
            x = functional.relu(functional.conv2d(x, layer.weight, layer.bias, stride, layer.padding))
            found.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return found


def load_lpips(path: Path) -> LpipsNetwork:
    """The frozen network with the weights of the registry's file. Raises UserError where it is of another model."""
    network, ours = LpipsNetwork(), {}
    theirs = {f"AlexNet_0/Conv_{index}": f"convolutions.{index}" for index in range(5)}
    theirs |= {f"NetLinLayer_{index}/Conv_0": f"heads.{index}" for index in range(5)}
    for name, array in read_arrays(path).items():
        layer, _, part = name.rpartition("/")
        if part == "kernel":  # (h, w, in, out) there, (out, in, h, w) here
            part, array = "weight", np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        ours[f"{theirs.get(layer, layer)}.{part}"] = torch.from_numpy(array)
    load_strictly(network, ours, str(path))
    return network.eval().requires_grad_(False)
