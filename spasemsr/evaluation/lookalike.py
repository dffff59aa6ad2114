"""Does each result show what its hr shows? A pair by name may still be two pictures: files renamed, in another order.

Compared are thumbnails of the luma, which restoration leaves as they are: of a picture and its restoration they agree,
of two pictures hardly. What is flat even at that size is not judged. Measured on four crops of 512 px of each of 104
photographs: after a blur of 6 px, a quarter of the size, noise of 30 grey levels and JPEG of quality 30 the lowest
correlation with the own crop is 0.85; with a crop by chance 4 % exceed 0.5.
"""

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.pixels import ImageU8

Thumbnail = npt.NDArray[np.float32]

_SIDE = 16
_FLAT = 4.0  # grey levels of standard deviation: below them a thumbnail holds no more than noise and a gradient
_UNLIKE, _ALIKE = 0.5, 0.95  # correlations
_ROWS = 512  # results compared at once with all hr


def thumbnail(image: ImageU8) -> Thumbnail:
    """(H, W, 3) u8 -> (256,) float32 of mean 0 and length 1; zeros where the picture is flat."""
    gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    values = gray.astype(np.float32).ravel()
    values -= values.mean()
    return np.zeros_like(values) if values.std() < _FLAT else values / np.linalg.norm(values)


def strangers(results: Mapping[str, Thumbnail], hr: Mapping[str, Thumbnail]) -> dict[str, str]:
    """Key -> the key whose hr the result looks like, "" for none, for each result that does not look like its own hr.

    Both mappings have the same keys.
    """
    keys = sorted(results)
    truths_ND = np.stack([hr[key] for key in keys])
    found = {}
    for start in range(0, len(keys), _ROWS):
        part = keys[start : start + _ROWS]
        likeness = np.stack([results[key] for key in part]) @ truths_ND.T
        for row, key in enumerate(part):
            best = int(likeness[row].argmax())
            if likeness[row, start + row] >= _UNLIKE or not (results[key].any() and hr[key].any()):
                continue
            found[key] = keys[best] if likeness[row, best] >= _ALIKE else ""
    return found
