"""Maps brought to another size, with a gradient that is the same on every run.

B batch, C channels, x y the size of a map, h w the size wanted.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Resample = Callable[[Tensor, tuple[int, int]], Tensor]  # along each axis alone, and linear in what it is given


def resampled(resample: Resample, maps_BCxy: Tensor, size: tuple[int, int]) -> Tensor:
    """What `resample` makes of maps, (B, C, h, w).

    Where a gradient is wanted it is two matrix products, equal up to rounding: on a GPU the gradients of antialiased
    and adaptive resampling have no deterministic form, and torch refuses them (`determinism.py`).
    """
    if not maps_BCxy.requires_grad:
        return resample(maps_BCxy, size)
    down, across = (
        resample(torch.eye(side, device=maps_BCxy.device)[None, None], (wanted, side))[0, 0]
        for side, wanted in zip(maps_BCxy.shape[2:], size, strict=True)
    )
    return down @ maps_BCxy @ across.T
