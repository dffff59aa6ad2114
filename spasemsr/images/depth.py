"""The pixels of a loaded image at the file's full depth, and transparency that is stated as one colour.

Pillow holds colour at 8 bits, so 16-bit RGB(A) PNG and TIFF are decoded by OpenCV after Pillow has found the file
whole. A PNG may declare one gray level or colour transparent (tRNS), in the file's own depth; Pillow compares it with
levels that it has widened to 8 bits, and so misses it at 2, 4 and 16 bits. H W pixels.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from spasemsr.errors import RejectedSample
from spasemsr.images.tiff_samples import BITS, EXTRA, FORMAT, PHOTOMETRIC, PREMULTIPLIED, UNSIGNED, WHITE_IS_ZERO, tag

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_PNG_HEADER = slice(24, 26)  # bit depth and colour type in the IHDR chunk


def deep_gray(image: Image.Image) -> tuple[npt.NDArray[np.int64], int]:
    """Levels (H, W) of a gray image of 9 to 16 bits, and how many bits. Raises RejectedSample `unsupported_mode`."""
    bits = 16
    if image.format == "TIFF" and (stated := tag(image, BITS)):
        bits = stated[0]
    values = np.asarray(image).astype(np.int64)
    if not 1 <= bits <= 16 or values.min() < 0 or values.max() > 2**bits - 1:
        raise RejectedSample("unsupported_mode", "integer gray values outside 16 bits")
    if image.format == "TIFF" and tag(image, PHOTOMETRIC) == (WHITE_IS_ZERO,):  # Pillow minds it up to 8 bits
        values = 2**bits - 1 - values
    return values, bits


def deep_planes(data: bytes | None, image: Image.Image) -> tuple[npt.NDArray[np.uint16], int] | None:
    """(H, W, 1 to 4) uint16: gray, gray and alpha, RGB, RGB and alpha; and the bits that the file states.

    None for a file of 8 bits or less, and for colour whose file is not at hand. Raises RejectedSample
    `unsupported_mode` for 16 bits that cannot be read.
    """
    if image.mode in DEEP_MODES:
        values, bits = deep_gray(image)
        planes = np.rint(values * (65535 / (2**bits - 1))).astype(np.uint16)[..., None]
        level = image.info.get("transparency")
        if isinstance(level, int):
            planes = np.dstack([planes, np.where(values == level, 0, 65535).astype(np.uint16)])
        return planes, bits
    if data is None or (kind := _deep_colour(data, image)) is None:
        return None
    import cv2

    loud = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it cannot read is said below
    try:
        planes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        planes = None
    finally:
        cv2.utils.logging.setLogLevel(loud)
    size = (image.height, image.width)
    if planes is None or planes.dtype != np.uint16 or planes.ndim != 3 or planes.shape[:2] != size:
        raise RejectedSample("unsupported_mode", "its 16-bit channels cannot be read")
    planes = planes[..., [2, 1, 0, 3][: planes.shape[2]]]
    if kind == 4:  # gray and alpha, which OpenCV spreads over four planes
        planes = planes[..., [0, -1]]
    stated = image.info.get("transparency")
    if kind == 2 and isinstance(stated, tuple) and len(stated) == 3:
        planes = planes[..., :3]
        seen = (planes != np.asarray(stated, np.uint16)).any(axis=2)
        planes = np.dstack([planes, np.where(seen, 65535, 0).astype(np.uint16)])
    if image.format == "TIFF":
        planes = planes[..., : len(image.getbands())]  # a further channel that is not called alpha is none
    if image.format == "TIFF" and PREMULTIPLIED in tag(image, EXTRA):
        alpha = np.maximum(planes[..., 3:].astype(np.float64), 1) / 65535
        colour = np.clip(np.rint(planes[..., :3] / alpha), 0, 65535).astype(np.uint16)
        planes = np.dstack([colour, planes[..., 3]])
    return planes, 16


def transparent_gray(data: bytes | None, image: Image.Image) -> npt.NDArray[np.bool_] | None:
    """Where (H, W) a gray PNG of 16 bits or less shows the one level that it declares transparent; None elsewhere."""
    level = image.info.get("transparency")
    if image.format != "PNG" or not isinstance(level, int) or image.mode not in ("1", "L", *DEEP_MODES):
        return None
    depth = data[24] if data else 8
    if image.mode in DEEP_MODES:
        return np.asarray(image) == level
    widened = level * (255 // (2**depth - 1)) if depth in (2, 4) else level  # at one bit Pillow says 0 or 255
    return np.asarray(image.convert("L")) == widened


def _deep_colour(data: bytes, image: Image.Image) -> int | None:
    """The PNG colour type of a file with 16 bits a channel (2 for a TIFF), None for another file."""
    if image.format == "PNG":
        depth, kind = data[_PNG_HEADER]
        return kind if depth == 16 and kind in (2, 4, 6) else None
    if image.format == "TIFF":
        depths, formats = tag(image, BITS, (8,)), tag(image, FORMAT, (UNSIGNED,))
        deep = set(depths) == {16} and len(depths) >= 3 and set(formats) == {UNSIGNED} and image.mode[:3] == "RGB"
        return 2 if deep else None
    return None
