"""A picture with all that must survive upscaling: depth, gray or colour, alpha, ICC profile, EXIF.

Pixel values stay in the file's own colour space and the profile stays with them, so nothing is clipped on the way; only
CMYK and YCbCr, which the network cannot take, are converted to sRGB. H W pixels.
"""

import io
import struct
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from spasemsr.errors import RejectedSample
from spasemsr.images.flat import to_srgb

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
# EXIF that describes the photograph; what describes the file (strips, compression, thumbnail) is the writer's business.
_TEXT_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
_ORIENTATION, _PIXEL_WIDTH, _PIXEL_HEIGHT, _INTEROPERABILITY, _BITS_PER_SAMPLE = 0x0112, 0xA002, 0xA003, 0xA005, 258


@dataclass(frozen=True)
class Picture:
    """Upright pixels and what came with them; `notes` name every treatment that lost or changed something."""

    colour: Pixels  # (H, W, 1) gray or (H, W, 3)
    alpha: Pixels | None  # (H, W), as deep as `colour`
    format: str  # JPEG, PNG, WEBP, TIFF, or "" for a picture that was no file
    icc: bytes | None = None
    exif: bytes | None = None  # without orientation, which has been applied
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.colour.shape[1], self.colour.shape[0]

    @property
    def bits(self) -> int:
        """8 or 16 bits per sample."""
        return 8 * self.colour.dtype.itemsize

    @property
    def mode(self) -> str:
        """What the picture is, in words for people: "gray", "gray+alpha", "rgb" or "rgb+alpha"."""
        return ("gray" if self.colour.shape[2] == 1 else "rgb") + ("" if self.alpha is None else "+alpha")

    def rgb8(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8, for what looks at the picture; alpha is left out."""
        eight = self.colour if self.bits == 8 else _eight(self.colour)
        return np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3)))

    def eight_bit(self) -> "Picture":
        """The picture at 8 bits per sample."""
        if self.bits == 8:
            return self
        alpha = None if self.alpha is None else _eight(self.alpha)
        return replace(self, colour=_eight(self.colour), alpha=alpha, notes=(*self.notes, "reduced_to_8_bit"))

    def image(self) -> Image.Image:
        """As a Pillow image: L, LA, RGB, RGBA, or I;16 for 16-bit gray; Pillow has no deeper colour, so that loses."""
        if self.bits == 16 and self.mode == "gray":
            image = Image.fromarray(np.ascontiguousarray(self.colour[..., 0]))
        else:
            picture = self.eight_bit()
            planes = picture.colour if picture.alpha is None else np.dstack([picture.colour, picture.alpha])
            image = Image.fromarray(np.ascontiguousarray(planes.squeeze(2) if planes.shape[2] == 1 else planes))
        if self.icc:
            image.info["icc_profile"] = self.icc
        if self.exif:
            image.info["exif"] = self.exif
        return image


def _eight(deep: Pixels) -> npt.NDArray[np.uint8]:
    """16 bits per sample -> 8, rounded."""
    return ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)


def from_image(image: Image.Image, planes: npt.NDArray[np.uint16] | None = None) -> Picture:
    """A loaded Pillow image of any mode -> Picture. `planes` (H, W, 1..4) replaces pixels that Pillow holds at 8 bits.

    Raises RejectedSample `unsupported_mode` for what has no defined meaning in RGB.
    """
    notes: list[str] = []
    form, icc = {"MPO": "JPEG"}.get(image.format or "", image.format or ""), image.info.get("icc_profile")
    orientation, exif = _read_exif(image, notes)
    if getattr(image, "n_frames", 1) > 1:
        notes.append("first_frame_only")
    if planes is None:
        if image.mode == "CMYK":
            notes.append("cmyk_as_rgb")
            image, icc = to_srgb(image, notes), None
        planes = _planes(image, notes)
    planes = upright(planes, orientation)
    colour, alpha = planes, None
    if planes.shape[2] in (2, 4):
        colour, alpha = planes[..., :-1], np.ascontiguousarray(planes[..., -1])
    icc = _fitting_profile(icc, colour.shape[2], notes)
    return Picture(np.ascontiguousarray(colour), alpha, form, icc, exif, tuple(notes))


def upright(planes: npt.NDArray, orientation: int) -> npt.NDArray:
    """(H, W, ...) pixels turned and flipped as the EXIF orientation 1..8 says."""
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        planes = planes[::-1]
    if orientation in (2, 3, 6, 7):
        planes = planes[:, ::-1]
    return planes


def resized_exif(exif: bytes, width: int, height: int) -> bytes:
    """The EXIF block with the picture's new size in it, where it states one."""
    block = Image.Exif()
    block.load(exif)
    inner = block.get_ifd(ExifTags.IFD.Exif)
    for tag, side in ((_PIXEL_WIDTH, width), (_PIXEL_HEIGHT, height)):
        if tag in inner:
            inner[tag] = side
    return block.tobytes()


def fill_transparent(colour: Pixels, alpha: Pixels) -> Pixels:
    """Colour where nothing is seen, taken from what is seen around: else an edge picks up what hides behind it."""
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


def _planes(image: Image.Image, notes: list[str]) -> npt.NDArray:
    """(H, W, 1..4): gray, gray and alpha, RGB or RGB and alpha."""
    if image.mode in _SIXTEEN:
        return _sixteen_bit(image, notes)
    if image.mode in _ALPHA or "transparency" in image.info:
        gray = image.mode in ("LA", "La", "L", "1")
        if image.mode in ("La", "RGBa"):  # colour was multiplied with alpha
            image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
        return np.asarray(image.convert("RGBA"))[..., [0, 3] if gray else [0, 1, 2, 3]]
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))[..., None]
    if image.mode not in ("RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV"):
        raise RejectedSample("unsupported_mode", f"colour mode {image.mode} has no defined conversion to RGB")
    return np.asarray(image.convert("RGB"))


def _sixteen_bit(image: Image.Image, notes: list[str]) -> npt.NDArray[np.uint16]:
    """Gray of 9 to 16 bits -> (H, W, 1) uint16, full range to full range."""
    bits = 16
    if image.format == "TIFF" and (stated := getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)):
        bits = int(stated[0])
    values = np.asarray(image).astype(np.int64)
    top = 2**bits - 1
    if bits > 16 or values.min() < 0 or values.max() > top:
        raise RejectedSample("unsupported_mode", "integer gray values outside 16 bits")
    if bits != 16:
        notes.append(f"gray_{bits}_bit")
    return np.rint(values * (65535 / top)).astype(np.uint16)[..., None]


def _fitting_profile(icc: bytes | None, channels: int, notes: list[str]) -> bytes | None:
    """The ICC profile if it can be read and is one for as many channels."""
    if not icc:
        return None
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        notes.append("icc_unreadable")
        return None
    if space != ("GRAY" if channels == 1 else "RGB"):
        notes.append("icc_of_another_colour_space")
        return None
    return icc


def _read_exif(image: Image.Image, notes: list[str]) -> tuple[int, bytes | None]:
    """Orientation (1 if none), and the descriptive EXIF as a block of its own, None if there is none."""
    try:
        found = image.getexif()
        orientation = found.get(_ORIENTATION, 1)
        kept = Image.Exif()
        for tag in _TEXT_TAGS:
            if tag in found:
                kept[tag] = found[tag]
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            inner = {tag: value for tag, value in found.get_ifd(ifd).items() if tag != _INTEROPERABILITY}
            if inner:
                kept[ifd] = inner
        orientation = orientation if orientation in range(1, 9) else 1
        block = kept.tobytes() if len(kept) else None
        if block:
            resized_exif(block, 1, 1)
        return orientation, block
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, AttributeError, struct.error, OverflowError):
        notes.append("exif_unreadable")
        return 1, None
