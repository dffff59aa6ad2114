"""From a picture to the colours that are restored, and from the restored canvas to a picture like the one that came in.

The canvas is 16-bit RGB at the model's own scale; the result has the size that was asked for and the picture's own
depth, gray or colour, alpha and everything else it carried.
"""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.images.picture import Picture, Pixels
from spasemsr.images.transparency import fill_transparent
from spasemsr.pixels import to_eight_bits
from spasemsr.upscaling.settings import Settings


def visible(picture: Picture) -> Picture:
    """The picture with colour under full transparency replaced by what is around it."""
    if picture.alpha is None:
        return picture
    return replace(picture, colour=fill_transparent(picture.colour, picture.alpha))


def finished(
    picture: Picture, canvas: npt.NDArray[np.uint16], alpha: npt.NDArray[np.uint16] | None, settings: Settings
) -> Picture:
    """The picture with the restored canvas (H, W, 3) and its alpha (H, W) in their place, at the size asked for.

    Raises RejectedSample for a size out of reach.
    """
    colour = sized(canvas, picture, settings)
    if picture.colour.shape[2] == 1:
        colour = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)[..., None]
    return replace(
        picture,
        colour=_deep_as(colour, picture),
        alpha=None if alpha is None else _deep_as(sized(alpha, picture, settings), picture),
    )


def sized(pixels: npt.NDArray, picture: Picture, settings: Settings) -> npt.NDArray:
    """A picture's canvas, or what has its size, (H, W, ...): reduced by area to the size asked for, and cut to it."""
    size, kept = settings.sizes(*picture.size)
    if pixels.shape[1::-1] != size:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    left, top = (size[0] - kept[0]) // 2, (size[1] - kept[1]) // 2
    return pixels[top : top + kept[1], left : left + kept[0]]


def _deep_as(pixels: npt.NDArray[np.uint16], picture: Picture) -> Pixels:
    """16-bit pixels at the depth of a picture."""
    return pixels if picture.bits == 16 else to_eight_bits(pixels)
