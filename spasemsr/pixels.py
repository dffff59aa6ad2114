"""Pixels in memory: 8 bits, 16 bits, tensors, PNG bytes, and the one bicubic function of the project.

Whatever is upsampled for a network goes through `bicubic_upsample`: torch's bicubic (a = -0.75) and PIL's (a = -0.5)
differ by several grey levels on noise, so training, inference, colour fix and baseline share this function. Shapes: B
batch, u v pixels of lr, H W pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spasemsr import atomic

if TYPE_CHECKING:
    from torch import Tensor

ImageU8 = npt.NDArray[np.uint8]  # (H, W, 3) RGB
_EIGHT_BITS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)  # of each level of 16 bits


def to_tensor(pixels: npt.NDArray[np.uint8]) -> "Tensor":
    """(B, H, W, 3) uint8, or one (H, W, 3), -> (B, 3, H, W) float32 in [0, 1], channels last in memory."""
    import torch

    batch = pixels if pixels.ndim == 4 else pixels[None]
    return torch.from_numpy(np.require(batch, requirements=("C", "W"))).permute(0, 3, 1, 2).float().div_(255)


def to_pixels(images_B3HW: "Tensor") -> npt.NDArray[np.uint8]:
    """(B, 3, H, W) in [0, 1] -> (B, H, W, 3) uint8, clamped and rounded."""
    import torch

    levels = (images_B3HW.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def to_eight_bits(values: npt.NDArray) -> npt.NDArray[np.uint8]:
    """Levels of 16 bits -> 8 bits, full range to full range, rounded; 8 bits stay what they are."""
    return values if values.dtype == np.uint8 else _EIGHT_BITS[values]


def png_bytes(picture: npt.NDArray[np.uint8]) -> bytes:
    """The PNG file of (H, W, 3) RGB or (H, W) gray."""
    import cv2

    planes = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", np.ascontiguousarray(planes))
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {picture.shape}")
    return data.tobytes()


def write_png(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB or (H, W) gray, whole or not at all."""
    atomic.write(path, png_bytes(picture))


def bicubic_upsample(lr_B3uv: "Tensor", scale: int) -> "Tensor":
    """Images in [0, 1], (B, 3, u, v) -> (B, 3, scale u, scale v), clamped to [0, 1] (bicubic overshoots at edges)."""
    from torch.nn import functional

    upsampled = functional.interpolate(lr_B3uv, scale_factor=scale, mode="bicubic", align_corners=False)
    return upsampled.clamp(0.0, 1.0)
