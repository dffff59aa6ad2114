"""Transparency: the modes that have it, and a colour for pixels that nobody sees. H W pixels.

Files hold any colour where alpha is 0. Enlarging mixes it into the visible edge, so it is replaced by what is seen
around it.
"""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")  # of Pillow; a palette or one colour may be transparent in others


def fill_transparent(colour: Pixels, alpha: Pixels) -> Pixels:
    """Colour (H, W, C) with every pixel of alpha (H, W) 0 replaced by a smooth continuation of the others.

    Where alpha is 0 everywhere or nowhere the colour is returned as it is.
    """
    seen = (alpha > 0).astype(np.float32)
    if seen.all() or not seen.any():
        return colour
    filled = _spread(colour.astype(np.float32) * seen[..., None], seen)
    return np.where(seen[..., None] > 0, colour, np.rint(filled).astype(colour.dtype))


def _spread(weighted: npt.NDArray, weight: npt.NDArray) -> npt.NDArray:
    """Known values (H, W, C) times weight -> values everywhere: halves are averaged first, what is known stays."""
    height, width = weight.shape
    if weight.all() or max(height, width) == 1:
        return weighted / np.maximum(weight, 1e-6)[..., None]
    half = max(width // 2, 1), max(height // 2, 1)
    small = cv2.resize(weighted, half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0], -1)
    coarse = _spread(small, cv2.resize(weight, half, interpolation=cv2.INTER_AREA).reshape(half[1], half[0]))
    large = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
    known = weight[..., None] > 1e-3
    return np.where(known, weighted / np.maximum(weight, 1e-3)[..., None], large)
