"""Pixels in memory: the type of an 8-bit picture, and the one bicubic function of the project.

Whatever is upsampled for a network goes through `bicubic_upsample`: torch's bicubic (a = -0.75) and PIL's (a = -0.5)
differ by several grey levels on noise, so training, inference, colour fix and baseline share this function, and a
model's `config.json` names it. Shapes: B batch, h w pixels of lr.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

ImageU8 = npt.NDArray[np.uint8]  # (H, W, 3) RGB
UPSAMPLER = "torch.bicubic(a=-0.75, align_corners=false), clamped to [0,1]"


def bicubic_upsample(lr_B3hw: "Tensor", scale: int) -> "Tensor":
    """Images in [0, 1], (B, 3, h, w) -> (B, 3, scale h, scale w), clamped to [0, 1] (bicubic overshoots at edges)."""
    from torch.nn import functional

    upsampled = functional.interpolate(lr_B3hw, scale_factor=scale, mode="bicubic", align_corners=False)
    return upsampled.clamp(0.0, 1.0)
