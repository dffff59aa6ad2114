"""A picture with all that must survive upscaling: depth, gray or colour, alpha, and everything its file says of it.

Pixel values stay in the file's own colour space and the profile stays with them, so nothing is clipped on the way; only
CMYK and YCbCr, which the network cannot take, are converted to sRGB. H W pixels.
"""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from spasemsr.errors import RejectedSample
from spasemsr.images import depth, exif, metadata
from spasemsr.images.flat import to_srgb, upright
from spasemsr.images.opening import decoding, format_of, has_more_frames, open_image, read_bytes
from spasemsr.images.transparency import ALPHA_MODES, Pixels
from spasemsr.pixels import to_eight_bits

MIN_SIDE = 8  # pixels; below this there is nothing to restore
MAX_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Said:
    """What a file says beside its pixels and its ICC profile."""

    exif: bytes | None = None  # without orientation, which has been applied
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    colour: tuple[tuple[bytes, bytes], ...] = ()  # PNG chunks (cICP, sRGB, gAMA, cHRM), where there is no ICC profile


@dataclass(frozen=True)
class Picture:
    """Upright pixels and what came with them; `notes` name every treatment that lost or changed something."""

    colour: Pixels  # (H, W, 1) gray or (H, W, 3)
    alpha: Pixels | None  # (H, W), as deep as `colour`
    format: str  # as `opening.format_of` calls it
    icc: bytes | None = None
    said: Said = field(default_factory=Said)
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
        eight = to_eight_bits(self.colour)
        return np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3)))

    def eight_bit(self) -> "Picture":
        """The picture at 8 bits per sample."""
        if self.bits == 8:
            return self
        alpha = None if self.alpha is None else to_eight_bits(self.alpha)
        return replace(self, colour=to_eight_bits(self.colour), alpha=alpha, notes=(*self.notes, "reduced_to_8_bit"))

    def image(self) -> Image.Image:
        """As a Pillow image: L, LA, RGB, RGBA, or I;16 for 16-bit gray; Pillow has no deeper colour, so that loses."""
        if self.bits == 16 and self.mode == "gray":
            image = Image.fromarray(np.ascontiguousarray(self.colour[..., 0]))
        else:
            picture = self.eight_bit()
            planes = picture.colour if picture.alpha is None else np.dstack([picture.colour, picture.alpha])
            image = Image.fromarray(np.ascontiguousarray(planes.squeeze(2) if planes.shape[2] == 1 else planes))
        block = b"Exif\0\0" + self.said.exif if self.said.exif else None
        kept = {"icc_profile": self.icc, "exif": block, "xmp": self.said.xmp, "dpi": self.said.dpi}
        image.info.update({name: value for name, value in kept.items() if value})
        return image


def read_picture(path: Path, max_pixels: int) -> Picture:
    """Read one file. Raises RejectedSample with the reasons of `open_image`, `unsupported_mode`, and `too_small`."""
    return parse_picture(read_bytes(path, MAX_BYTES), max_pixels)


def parse_picture(data: bytes, max_pixels: int) -> Picture:
    """Decode one file's bytes; see `read_picture`."""
    with decoding():
        image = open_image(data, max_pixels)
        width, height = image.size
        if min(width, height) < MIN_SIDE:
            raise RejectedSample("too_small", f"{width}x{height} pixels; at least {MIN_SIDE} a side are needed")
        return from_image(image, data)


def from_image(image: Image.Image, data: bytes | None = None) -> Picture:
    """A loaded Pillow image of any mode -> Picture; `data` is its file, which knows more than Pillow does.

    Raises RejectedSample `unsupported_mode` for what has no defined meaning in RGB.
    """
    notes: list[str] = []
    form, icc = format_of(image), image.info.get("icc_profile")
    orientation, said = metadata.orientation_of(image, data), _said(image, data, notes)
    if has_more_frames(image):
        notes.append("first_frame_only")
    deep = None
    try:
        deep = depth.deep_planes(data, image)
    except RejectedSample:
        if image.mode[:3] != "RGB":
            raise
        notes.append("reduced_to_8_bit")
    planes: Pixels
    if deep is not None:
        planes, bits = deep
        if bits != 16:
            notes.append(f"gray_{bits}_bit")
    else:
        if image.mode == "CMYK":
            notes.append("cmyk_as_rgb")
            image, icc = to_srgb(image, notes), None
        planes = _planes(data, image)
    colour, alpha = upright(planes, metadata.left_to_turn(image, orientation)), None
    if colour.shape[2] in (2, 4):
        colour, alpha = colour[..., :-1], np.ascontiguousarray(colour[..., -1])
    icc = _fitting_profile(icc, colour.shape[2], notes)
    if icc is not None and said.colour:
        said = replace(said, colour=())  # the profile rules
    return Picture(np.ascontiguousarray(colour), alpha, form, icc, said, tuple(notes))


def _planes(data: bytes | None, image: Image.Image) -> npt.NDArray[np.uint8]:
    """(H, W, 1..4) of 8 bits: gray, gray and alpha, RGB or RGB and alpha."""
    hidden = depth.transparent_gray(data, image)
    if hidden is not None:
        return np.dstack([np.asarray(image.convert("L")), np.where(hidden, 0, 255).astype(np.uint8)])
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        gray = image.mode in ("LA", "La", "L", "1")
        if image.mode in ("La", "RGBa"):  # colour was multiplied with alpha
            image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
        return np.asarray(image.convert("RGBA"))[..., [0, 3] if gray else [0, 1, 2, 3]]
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))[..., None]
    if image.mode not in ("RGB", "RGBX", "P", "CMYK", "YCbCr", "HSV"):
        raise RejectedSample("unsupported_mode", f"colour mode {image.mode} has no defined conversion to RGB")
    return np.asarray(image.convert("RGB"))


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


def _said(image: Image.Image, data: bytes | None, notes: list[str]) -> Said:
    """All that the file says; a tag that is damaged costs that tag."""
    block = metadata.exif_of(image, data)
    stated = image.info.get("exif")
    kept = None
    if block is not None:
        described = block.descriptive()
        kept = exif.serialise(described) if described else None
        if block.damaged:
            notes.append("exif_tags_dropped")
    elif stated:
        notes.append("exif_unreadable")
    xmp = metadata.xmp_of(image)
    return Said(
        exif=kept,
        xmp=None if xmp is None else exif.upright_xmp(xmp),
        iptc=metadata.iptc_of(image),
        dpi=metadata.dpi_of(image),
        colour=metadata.colour_chunks(data),
    )
