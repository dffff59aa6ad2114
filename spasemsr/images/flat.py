"""One untrusted image file -> (H, W, 3) uint8 sRGB, or a RejectedSample that says why.

Formats: JPEG, PNG, WebP, TIFF. Byte and pixel limits are checked before any pixel is decoded. Defined treatments, each
named in `Decoded.treatments` so that ingest can count them:

| input | becomes |
|---|---|
| gray, 1-bit, palette | RGB |
| alpha, transparent palette entries | composited over white |
| CMYK, YCbCr | RGB (through its ICC profile where it has one) |
| 16- and 12-bit gray | 8-bit, full range to full range, rounded; 16-bit RGB(A) PNG: the high byte |
| EXIF orientation | applied; all other metadata dropped |
| ICC profile | converted to sRGB; an unreadable profile counts as none |
| several frames or pages | the first |

Truncated, corrupt and lying files are rejected whole: half a photograph is not a photograph.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import (  # the plugins by name: Image.open knows a format only once its plugin is imported
    Image,
    ImageCms,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from spasemsr.errors import RejectedSample

FORMATS = (  # a JPEG with further pictures (MPO) is opened by the JPEG plugin
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
)
SUFFIXES = frozenset([".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff"])
# Looked at and rejected with a reason, so that a person learns why their file is not used; other files are ignored.
FOREIGN_SUFFIXES = frozenset(
    """.bmp .gif .ico .avif .heic .heif .jp2 .jxl .pgm .ppm .pbm .pnm .tga .psd .svg
    .raw .dng .cr2 .nef .arw""".split()
)
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258


@dataclass(frozen=True)
class Decoded:
    """An image ready for use: pixels (H, W, 3) uint8 sRGB, and the names of the treatments it received."""

    pixels: npt.NDArray[np.uint8]
    treatments: tuple[str, ...]


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode one image file's bytes.

    Raises RejectedSample with reason `unsupported_format`, `unsupported_mode`, `too_large`, `truncated` or `corrupt`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _treat(open_image(data, max_pixels))


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The loaded Pillow image of a file's bytes, in whatever mode it has; limits are checked before decoding.

    Raises RejectedSample as `decode` does.
    """
    with warnings.catch_warnings():
        # Pillow warns where it guesses (bombs, broken EXIF); what matters is decided below, from header and pixels.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError:
            raise _unidentified(data) from None
        except Image.DecompressionBombError as error:
            raise RejectedSample("too_large", str(error)) from None
        except (OSError, ValueError, SyntaxError, struct.error, OverflowError, MemoryError) as error:
            raise _undecodable(error) from None
        width, height = image.size
        if width * height > max_pixels:
            raise RejectedSample("too_large", f"{width}x{height} is over the limit of {max_pixels} pixels")
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, struct.error, OverflowError, MemoryError) as error:
            raise _undecodable(error) from None
        return image


def read_image(path: Path, max_bytes: int, max_pixels: int) -> Decoded:
    """Read and decode one file."""
    return decode(read_bytes(path, max_bytes), max_pixels)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The bytes of one untrusted file; rejects `empty`, `too_large` (in bytes) and `unreadable`."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise RejectedSample("empty", "the file has no bytes")
        if size > max_bytes:
            raise RejectedSample("too_large", f"{size} bytes is over the limit of {max_bytes}")
        return path.read_bytes()
    except OSError as error:
        raise RejectedSample("unreadable", error.strerror or type(error).__name__) from None


def _treat(image: Image.Image) -> Decoded:
    """A loaded Pillow image of any mode -> RGB pixels and the treatments used."""
    treatments: list[str] = []
    if getattr(image, "n_frames", 1) > 1:
        treatments.append("first_frame")
    image = _upright(image, treatments)
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        image = _eight_bit(image, treatments)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        treatments.append("alpha_over_white")
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        profile = image.info.get("icc_profile")
        image = Image.alpha_composite(white, rgba).convert("RGB")
        if profile:
            image.info["icc_profile"] = profile
    image = to_srgb(image, treatments)
    if image.mode != "RGB":
        names = {"L": "gray", "1": "one_bit", "P": "palette", "CMYK": "cmyk", "YCbCr": "ycbcr"}
        if image.mode not in names:
            raise RejectedSample("unsupported_mode", f"colour mode {image.mode} has no defined conversion to RGB")
        treatments.append(names[image.mode])
        image = image.convert("RGB")
    return Decoded(np.asarray(image, dtype=np.uint8).copy(), tuple(treatments))


def _upright(image: Image.Image, treatments: list[str]) -> Image.Image:
    """Apply EXIF orientation; EXIF that cannot be read says nothing about orientation."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return image
    if orientation in range(2, 9):
        treatments.append("exif_rotated")
        return ImageOps.exif_transpose(image)
    return image


def _eight_bit(image: Image.Image, treatments: list[str]) -> Image.Image:
    """Gray of 12 or 16 bits -> 8 bits, full range to full range."""
    bits = 16
    if image.format == "TIFF" and (stated := getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)):
        bits = int(stated[0])
    values = np.asarray(image).astype(np.float64)
    top = float(2**bits - 1)
    if bits > 16 or values.min() < 0 or values.max() > top:
        raise RejectedSample("unsupported_mode", "integer gray values outside 16 bits")
    treatments.append(f"gray_{bits}_bit")
    return Image.fromarray(np.rint(values * (255.0 / top)).astype(np.uint8), "L")


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


def _unidentified(data: bytes) -> RejectedSample:
    """Tell an image of another format from a file that only pretends to be one of ours."""
    ours = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    for magic, name in ours.items():
        if data.startswith(magic):
            return RejectedSample("corrupt", f"begins like a {name} file but its header cannot be read")
    return RejectedSample("unsupported_format", "not JPEG, PNG, WebP or TIFF; convert it to one of them")


def _undecodable(error: BaseException) -> RejectedSample:
    """A decoder's complaint as one line; a file that ends too early is the common case and has a name of its own."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return RejectedSample("truncated" if "truncated" in text.lower() else "corrupt", text)
