"""Where a network makes things up: the deviation of its results over noise seeds, pixel by pixel.

What lr determines comes out alike whatever the noise; what is invented does not. One function for evaluation's maps and
the upscaler's. H W are pixels of the result.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

GAIN = 16  # levels of a map's picture per grey level of deviation


def luma_deviation(results: Iterable[npt.NDArray]) -> npt.NDArray[np.float32]:
    """Standard deviation of luma over results of equal size, (H, W) in grey levels of 8 bits.

    Results are (H, W, 3) uint8 or uint16 RGB, two or more, taken one at a time: memory does not grow with their number.
    """
    count, total, squares = 0, np.zeros((), np.float32), np.zeros((), np.float32)
    for result in results:
        luma = cv2.cvtColor(result, cv2.COLOR_RGB2GRAY).astype(np.float32)
        luma /= 257 if result.dtype == np.uint16 else 1
        luma -= 128  # small sums, small errors
        count, total = count + 1, luma.copy() if count == 0 else np.add(total, luma, out=total)
        luma *= luma  # in place, here and below: these are whole images
        squares = luma if count == 1 else np.add(squares, luma, out=squares)
    if count < 2:
        raise ValueError(f"a deviation needs two results, not {count}")
    total *= total
    squares -= total / count
    return np.sqrt(np.maximum(squares, 0, out=squares) / (count - 1))


def as_picture(levels_HW: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A map in grey levels -> (H, W) uint8, GAIN times brighter and cut off at white."""
    return np.clip(np.rint(GAIN * levels_HW), 0, 255).astype(np.uint8)
