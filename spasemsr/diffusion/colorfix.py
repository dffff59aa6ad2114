"""Colour fix: what the diffusion does to overall colour is taken from lr_up instead.

Two forms used by StableSR and SeeSR: AdaIN matches mean and deviation per channel; wavelet replaces the low
frequencies. Images are (B, 3, H, W) in [0, 1]; B batch, H W pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 5
MIN_STD = 1e-4  # a flat channel has no deviation to match


def fix_colors(kind: str, restored_B3HW: Tensor, lr_up_B3HW: Tensor) -> Tensor:
    """Apply the colour fix `adain`, `wavelet` or `none`; the result is clamped to [0, 1]."""
    match kind:
        case "adain":
            restored_B3HW = adain(restored_B3HW, lr_up_B3HW)
        case "wavelet":
            restored_B3HW = wavelet(restored_B3HW, lr_up_B3HW)
        case "none":
            pass
        case _:
            raise ValueError(f"no colour fix {kind!r}")
    return restored_B3HW.clamp(0.0, 1.0)


def adain(restored_B3HW: Tensor, lr_up_B3HW: Tensor) -> Tensor:
    """Give each channel of each image the mean and deviation it has in lr_up."""
    mean, std = _moments(restored_B3HW)
    mean_lr, std_lr = _moments(lr_up_B3HW)
    return (restored_B3HW - mean) / std * std_lr + mean_lr


def wavelet(restored_B3HW: Tensor, lr_up_B3HW: Tensor) -> Tensor:
    """High band of the restored image plus low band of lr_up, split by a 5-level a-trous transform.

    The transform is linear, so the band that changes is that of the difference, which is made once.
    """
    return restored_B3HW - low_band(restored_B3HW - lr_up_B3HW)


def low_band(images_BCHW: Tensor) -> Tensor:
    """What is left after 5 blurs with the binomial kernel (1 2 1)/4 and holes of 1, 2, 4, 8, 16 pixels.

    Each is made along one axis after the other, as the mean of two means: half the sum of two numbers is rounded alike
    everywhere, and on a CPU this takes a sixth of what a convolution takes.
    """
    for level in range(LEVELS):
        hole = 2**level
        for axis, padding in ((-2, [0, 0, hole, hole]), (-1, [hole, hole, 0, 0])):
            images_BCHW = functional.pad(images_BCHW, padding, mode="replicate")
            for _ in range(2):
                length = images_BCHW.shape[axis] - hole
                first, second = (images_BCHW.narrow(axis, start, length) for start in (0, hole))
                images_BCHW = torch.lerp(first, second, 0.5)
    return images_BCHW


def _moments(images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over pixels, (B, C, 1, 1) each."""
    std, mean = torch.std_mean(images_BCHW, dim=(2, 3), keepdim=True)
    return mean, std.clamp_min(MIN_STD)
