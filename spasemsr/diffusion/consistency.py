"""LR consistency: how far a result, made small again, is from lr, and the projection that takes this away.

A result that explains lr gives lr back when it is reduced. Degradations also blur and add noise, so zero is not the
goal for real photographs: projecting fully brings lr's noise back. B batch, u v pixels of lr, H W of the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 4  # of back-projection: reducing what was enlarged loses something, so one is not enough


def reduce(images_B3HW: Tensor, scale: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, H / scale, W / scale), bicubic with an antialiasing filter, not clamped."""
    from torch.nn import functional

    size = [side // scale for side in images_B3HW.shape[-2:]]
    return functional.interpolate(images_B3HW, size=size, mode="bicubic", align_corners=False, antialias=True)


def residual(restored_B3HW: Tensor, lr_B3uv: Tensor, scale: int) -> Tensor:
    """|reduce(restored) - lr|, mean over colours, (B, u, v) in [0, 1]."""
    return (reduce(restored_B3HW, scale) - lr_B3uv).abs().mean(dim=1)


def project(restored_B3HW: Tensor, lr_B3uv: Tensor, scale: int, strength: float) -> Tensor:
    """Move a result towards those that reduce to lr, by back-projection; strength 0 changes nothing, 1 all the way.

    (B, 3, H, W) in [0, 1] -> the same, clamped.
    """
    import torch
    from torch.nn import functional

    if strength == 0.0:
        return restored_B3HW
    projected = restored_B3HW
    for _ in range(ROUNDS):
        missing = lr_B3uv - reduce(projected, scale)
        enlarged = functional.interpolate(missing, scale_factor=scale, mode="bicubic", align_corners=False)
        projected = (projected + enlarged).clamp(0.0, 1.0)
    return torch.lerp(restored_B3HW, projected, strength)
