"""The plainest degradation: the mean of every scale x scale cell, and Gaussian noise.

What has mean zero in every cell leaves no trace at all, which is what a world with known truth needs: no other filter
says as exactly what is lost.
"""

from typing import Any

import cv2
import numpy as np

from spasemsr import randomness
from spasemsr.pixels import ImageU8

VERSION = 1  # of lr: bump it when the same trace gives other bytes


def area_mean(hr: ImageU8, scale: int, noise: float, seed: int) -> tuple[ImageU8, dict[str, Any]]:
    """hr (H, W, 3) -> lr (H // scale, W // scale, 3) and its trace; `noise` is a standard deviation in grey levels."""
    height, width = (side // scale for side in hr.shape[:2])
    cells = hr[: height * scale, : width * scale].astype(np.float32)
    mean = cv2.resize(cells, (width, height), interpolation=cv2.INTER_AREA)
    drawn = randomness.generator(seed, "area noise").standard_normal(mean.shape, dtype=np.float32)
    lr = np.clip(np.rint(mean + np.float32(noise) * drawn), 0, 255).astype(np.uint8)
    return lr, {"preset": "area", "seed": seed, "scale": scale, "noise": noise}
