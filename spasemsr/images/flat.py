"""One untrusted image file -> (H, W, 3) uint8 sRGB for training, or a RejectedSample that says why.

Formats and limits are those of `images/opening.py`. Defined treatments, each named in `Decoded.treatments` so that
ingest can count them:

| input | becomes |
|---|---|
| gray, 1-bit, palette | RGB |
| alpha, a transparent level or palette entry | composited over white |
| CMYK, YCbCr | RGB (through its ICC profile where it has one) |
| 16- and 12-bit gray | 8-bit, full range to full range, rounded; 16-bit RGB(A) PNG: the high byte |
| EXIF or XMP orientation | applied; all other metadata dropped |
| ICC profile | converted to sRGB; an unreadable profile, and one of gray, counts as none |
| gAMA, cHRM, cICP of a PNG | not looked at, and said where they mean another colour than sRGB |
| several frames or pages | the first |

Truncated, corrupt and lying files are rejected whole: half a photograph is not a photograph.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from spasemsr.errors import RejectedSample
from spasemsr.images import depth, metadata
from spasemsr.images.opening import decoding, has_more_frames, open_image, read_bytes
from spasemsr.images.transparency import ALPHA_MODES

_NAMES = {"L": "gray", "1": "one_bit", "P": "palette", "CMYK": "cmyk", "YCbCr": "ycbcr"}


@dataclass(frozen=True)
class Decoded:
    """An image ready for use: pixels (H, W, 3) uint8 sRGB, and the names of the treatments it received."""

    pixels: npt.NDArray[np.uint8]
    treatments: tuple[str, ...]


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode one image file's bytes.

    Raises RejectedSample with the reasons of `open_image`, and `unsupported_mode`.
    """
    with decoding():
        return _treat(data, open_image(data, max_pixels))


def read_image(path: Path, max_bytes: int, max_pixels: int) -> Decoded:
    """Read and decode one file."""
    return decode(read_bytes(path, max_bytes), max_pixels)


def upright(planes: npt.NDArray, orientation: int) -> npt.NDArray:
    """(H, W, ...) pixels turned and flipped as the EXIF orientation 1..8 says."""
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        planes = planes[::-1]
    if orientation in (2, 3, 6, 7):
        planes = planes[:, ::-1]
    return planes


def to_srgb(image: Image.Image, treatments: list[str]) -> Image.Image:
    """Convert through the embedded ICC profile to sRGB, where there is one that can be read."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        treatments.append("icc_unreadable")
        return image
    assert converted is not None  # it is only where an image is converted in place
    treatments.append("icc_to_srgb")
    return converted


def _treat(data: bytes, image: Image.Image) -> Decoded:
    """A loaded Pillow image of any mode -> RGB pixels and the treatments used."""
    treatments: list[str] = []
    if has_more_frames(image):
        treatments.append("first_frame")
    orientation = metadata.orientation_of(image, data)
    if orientation > 1:
        treatments.append("exif_rotated")
    left_to_turn = metadata.left_to_turn(image, orientation)
    profile, hidden = image.info.get("icc_profile"), depth.transparent_gray(data, image)
    palette = image.mode == "P"
    if image.mode in depth.DEEP_MODES:
        image = _eight_bit(image, treatments)
    if hidden is not None:
        treatments.append("alpha_over_white")
        image = Image.fromarray(np.where(hidden, 255, np.asarray(image.convert("L"))).astype(np.uint8))
    elif image.mode in ALPHA_MODES or "transparency" in image.info:
        treatments.append("alpha_over_white")
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba).convert("RGB")
    elif palette and profile:
        treatments.append(_NAMES[image.mode])
        image = image.convert("RGB")
    if profile:
        image.info["icc_profile"] = profile
        if image.mode not in ("RGB", "CMYK"):
            treatments.append("icc_ignored")
    else:
        treatments += [f"{name}_ignored" for name in metadata.other_colour(metadata.colour_chunks(data))]
    image = to_srgb(image, treatments)
    if image.mode != "RGB":
        if image.mode not in _NAMES:
            raise RejectedSample("unsupported_mode", f"colour mode {image.mode} has no defined conversion to RGB")
        treatments.append(_NAMES[image.mode])
        image = image.convert("RGB")
    pixels = upright(np.array(image, dtype=np.uint8), left_to_turn)
    return Decoded(np.ascontiguousarray(pixels), tuple(treatments))


def _eight_bit(image: Image.Image, treatments: list[str]) -> Image.Image:
    """Gray of 12 or 16 bits -> 8 bits, full range to full range."""
    values, bits = depth.deep_gray(image)
    treatments.append(f"gray_{bits}_bit")
    return Image.fromarray(np.rint(values * (255.0 / (2**bits - 1))).astype(np.uint8))
