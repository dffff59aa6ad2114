"""One untrusted image file -> Picture, or a RejectedSample that says why not.

Limits and formats are those of `images/flat.py`, checked before a pixel is decoded. Pillow holds colour at 8 bits, so
16-bit RGB(A) PNG and TIFF are decoded by OpenCV after Pillow has found the file whole.
"""

import io
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from spasemsr.errors import RejectedSample
from spasemsr.images.flat import FORMATS, open_image, read_bytes
from spasemsr.images.picture import Picture, from_image

MIN_SIDE = 8  # pixels; below this there is nothing to restore
MAX_BYTES = 2_000_000_000
_PNG_HEADER = slice(24, 26)  # bit depth and colour type in the IHDR chunk
_BITS_PER_SAMPLE, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _PREMULTIPLIED, _UNSIGNED = 258, 338, 339, 1, 1


def read_picture(path: Path, max_pixels: int) -> Picture:
    """Read one file. Raises RejectedSample with the reasons of `data.image.decode`, and `too_small`."""
    return parse_picture(read_bytes(path, MAX_BYTES), max_pixels)


def parse_picture(data: bytes, max_pixels: int) -> Picture:
    """Decode one file's bytes; see `read_picture`."""
    image = open_image(data, max_pixels)
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise RejectedSample("too_small", f"{width}x{height} pixels; at least {MIN_SIDE} a side are needed")
    try:
        return from_image(image, _sixteen_bit_colour(data, image))
    except (OSError, ValueError, SyntaxError, MemoryError) as error:  # a decoder that gave up late
        raise RejectedSample("corrupt", " ".join(str(error).split())[:200] or type(error).__name__) from None


def header_size(file: Path | bytes) -> tuple[int, int] | None:
    """Width and height as the header states them, before orientation; None for what cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
                return image.size
        except (OSError, ValueError, SyntaxError, struct.error, OverflowError, Image.DecompressionBombError):
            return None


def _sixteen_bit_colour(data: bytes, image: Image.Image) -> npt.NDArray[np.uint16] | None:
    """(H, W, 2..4) as the file has it, or None where Pillow already holds the file's full depth."""
    match image.format:
        case "PNG":
            depth, kind = data[_PNG_HEADER]
            if depth != 16 or kind not in (2, 4, 6):
                return None
        case "TIFF":
            tags = getattr(image, "tag_v2", {})
            depths, formats = tags.get(_BITS_PER_SAMPLE, (8,)), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
            if set(depths) != {16} or len(depths) < 3 or set(formats) != {_UNSIGNED} or image.mode[:3] != "RGB":
                return None
            kind = 2
        case _:
            return None
    try:
        planes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    size = (image.height, image.width)
    if planes is None or planes.dtype != np.uint16 or planes.ndim != 3 or planes.shape[:2] != size:
        return None
    planes = planes[..., [2, 1, 0, 3][: planes.shape[2]]]
    if kind == 4:  # gray and alpha, which OpenCV spreads over four planes
        planes = planes[..., [0, -1]]
    if image.format == "TIFF" and _PREMULTIPLIED in getattr(image, "tag_v2", {}).get(_EXTRA_SAMPLES, ()):
        alpha = np.maximum(planes[..., 3:].astype(np.float64), 1) / 65535
        colour = np.clip(np.rint(planes[..., :3] / alpha), 0, 65535).astype(np.uint16)
        planes = np.dstack([colour, planes[..., 3]])
    return planes
