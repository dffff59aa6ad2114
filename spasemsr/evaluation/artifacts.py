"""What a latent model may add to a picture that no metric of quality names: a colour cast, and the grid of its cells.

Both need no ground truth, so they can be asked of any restoration. H W pixels, u v pixels of lr.
"""

import cv2
import numpy as np

from spasemsr.evaluation.metrics import luma
from spasemsr.pixels import ImageU8


def colour_shift(restored_HW3: ImageU8, lr_uv3: ImageU8) -> float:
    """The largest difference of a channel's mean between a restoration and its input, in grey levels."""
    means = [image.reshape(-1, 3).mean(axis=0) for image in (restored_HW3, lr_uv3)]
    return float(np.abs(means[0] - means[1]).max())


def grid_strength(restored_HW3: ImageU8, period: int = 8) -> float:
    """RMS, in grey levels, of the `period` x `period` pattern that repeats all over a picture's luma.

    The pattern is the median over all cells, pixel by pixel, after taking off a box blur of one period, which leaves
    detail finer than a cell. Detail of a photograph falls on every phase, so its median is near zero at each.
    """
    y = 255 * luma(restored_HW3)
    fine = y - cv2.blur(y, (period + 1, period + 1), borderType=cv2.BORDER_REFLECT)
    rows, columns = (side // period for side in fine.shape)
    cells = fine[: rows * period, : columns * period].reshape(rows, period, columns, period)
    pattern = np.median(cells, axis=(0, 2))
    return float(np.sqrt(np.mean((pattern - pattern.mean()) ** 2)))
