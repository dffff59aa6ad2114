"""Weights in eight bits a number: half the size of half precision, for networks that ship.

Each output channel of a convolution or linear layer has its own scale, the largest of its numbers over 127. Biases and
other vectors stay in half precision. Computing is in float32.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SCALE = "{}.scale"  # one number for each output channel, beside the tensor it belongs to
_MOST = 127


def packed(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Float tensors -> int8 ones of the same names and shapes with their scales; vectors in half precision.

    Others stay. Raises ValueError for a tensor whose numbers are not all finite, or a vector's beyond half precision.
    """
    import torch

    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            made[name] = tensor
            continue
        value = tensor.detach().float()
        if not torch.isfinite(value.half() if value.ndim < 2 else value).all():
            raise ValueError(f"{name} has numbers that are not finite, or beyond half precision")
        if value.ndim < 2:
            made[name] = value.half()
            continue
        scale = value.abs().amax(tuple(range(1, value.ndim))) / _MOST
        made[_SCALE.format(name)] = scale
        made[name] = (value / _along(scale.clamp_min(torch.finfo(torch.float32).tiny), value)).round().to(torch.int8)
    return made


def unpacked(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """The inverse, in float32, off by half of a channel's scale at most; what is not packed stays."""
    import torch

    small = {name for name, value in tensors.items() if _SCALE.format(name) in tensors and value.dtype == torch.int8}
    scales = {_SCALE.format(name) for name in small}
    return {
        name: value.float() * _along(tensors[_SCALE.format(name)], value) if name in small else value
        for name, value in tensors.items()
        if name not in scales
    }


def _along(scale_C: "Tensor", value: "Tensor") -> "Tensor":
    """Scales of output channels, so that they multiply `value`."""
    return scale_C.view(-1, *[1] * (value.ndim - 1))
