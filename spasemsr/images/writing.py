"""Picture -> the bytes of a JPEG, PNG, WebP or TIFF file, with its depth, alpha, colour and all that it said of itself.

Pillow writes what it can hold; 16-bit PNG and all TIFF are written by `images/containers.py`. What a format cannot hold
is left out and noted by `fitted`, before any work.

| format | bits | alpha | gray | most pixels a side | EXIF | XMP | IPTC | resolution | colour beside ICC |
|---|---|---|---|---|---|---|---|---|---|
| PNG | 8, 16 | yes | yes | 2 147 483 647 | yes | yes | no | yes | gAMA, cHRM, cICP, sRGB |
| TIFF | 8, 16 | yes | yes | 2 147 483 647, 4 GB a file | yes | yes | yes | yes | no |
| WebP | 8 | yes | as RGB | 16 383 | yes | yes | no | in EXIF | no |
| JPEG | 8 | over white | yes | 65 500 | 64 kB | 64 kB | 64 kB | yes | no |
"""

import io
import struct
from dataclasses import replace

import numpy as np
from PIL import Image, PngImagePlugin

from spasemsr.errors import RejectedSample
from spasemsr.images import exif, metadata
from spasemsr.images.containers import deep_png, tiff
from spasemsr.images.picture import Picture, Pixels, Said

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}
FORMATS = {
    "jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF",
    "tiff": "TIFF",
}  # fmt: skip
MAX_SIDE = {"JPEG": 65_500, "PNG": 2**31 - 1, "WEBP": 16_383, "TIFF": 2**31 - 1}
QUALITY = 95
PNG_LEVEL = 3  # of zlib: on a restored photograph a third of level 6's time for 6 % more bytes
_MARKER = 65_533  # bytes that one JPEG segment holds
_XMP_HEAD, _IPTC_HEAD = 29, 14 + 4 + 2 + 2 + 4


def written_as(form: str) -> str:
    """The format of a result where none is asked for: its input's own if it can be written, else PNG, without loss."""
    return form if form in SUFFIXES else "PNG"


def require_fit(form: str, width: int, height: int) -> None:
    """Raise RejectedSample `too_large_for_format` before any work if a format cannot hold so many pixels a side."""
    if max(width, height) > MAX_SIDE[form]:
        detail = f"{form} holds at most {MAX_SIDE[form]} pixels a side, the result has {width}x{height}; take PNG"
        raise RejectedSample("too_large_for_format", detail)


def fitted(picture: Picture, form: str) -> Picture:
    """The picture as a format can hold it; what is lost stands in its notes."""
    picture = replace(picture, format=form)
    if form in ("JPEG", "WEBP"):
        picture = picture.eight_bit()
    if form == "JPEG" and picture.alpha is not None:
        share = picture.alpha[..., None].astype(np.float32) / 255
        over_white = np.rint(picture.colour * share + 255 * (1 - share)).astype(np.uint8)
        picture = replace(picture, colour=over_white, alpha=None, notes=(*picture.notes, "alpha_over_white"))
    rgb_only = form == "WEBP" or (form == "TIFF" and picture.bits == 16 and picture.alpha is not None)
    if rgb_only and picture.colour.shape[2] == 1:  # few readers know gray with alpha of 16 bits in a TIFF
        lost = (*picture.notes, "gray_as_rgb", *(["icc_dropped"] if picture.icc else []))
        rgb: Pixels = np.ascontiguousarray(np.broadcast_to(picture.colour, (*picture.colour.shape[:2], 3)))
        picture = replace(picture, colour=rgb, icc=None, notes=lost)
    notes: list[str] = []
    said = _holdable(picture.said, form, notes)
    return replace(picture, said=said, notes=(*picture.notes, *notes))


def _holdable(said: Said, form: str, notes: list[str]) -> Said:
    """What of it a format can hold; the rest is named in `notes`."""
    if said.colour and form != "PNG":
        notes += [f"{name}_dropped" for name in metadata.other_colour(said.colour)]
        said = replace(said, colour=())
    if form == "JPEG":
        if said.exif:
            shorter, cut = exif.within(said.exif, _MARKER - 6)
            said = replace(said, exif=shorter)
            notes += ["exif_shortened"] if cut else []
        if said.xmp and len(said.xmp) > _MARKER - _XMP_HEAD:
            said = replace(said, xmp=None)
            notes.append("xmp_dropped")
        if said.iptc and len(said.iptc) > _MARKER - _IPTC_HEAD:
            said = replace(said, iptc=None)
            notes.append("iptc_dropped")
    elif form in ("PNG", "WEBP") and said.iptc:
        said = replace(said, iptc=None)
        notes.append("iptc_dropped")
    if form == "WEBP" and said.dpi:
        said = replace(said, dpi=None)
        notes.append("dpi_dropped")
    return said


def encode(picture: Picture, quality: int = QUALITY) -> bytes:
    """The file of a fitted picture; the same picture gives the same bytes."""
    said, size = picture.said, picture.size
    said = replace(said, exif=exif.resized(said.exif, *size) if said.exif else None)
    if picture.format == "TIFF":
        return tiff(picture, said)
    if picture.bits == 16:
        return deep_png(picture, said)
    options: dict[str, object] = {"icc_profile": picture.icc, "exif": b"Exif\0\0" + said.exif if said.exif else b""}
    match picture.format:
        case "JPEG":
            options |= {"quality": quality, "subsampling": 0, "optimize": True, "xmp": said.xmp}
            options |= {"extra": _iptc_segment(said.iptc), "dpi": said.dpi and tuple(round(n) for n in said.dpi)}
        case "WEBP":
            options |= {"quality": quality, "method": 4, "exact": True, "xmp": said.xmp}
        case "PNG":
            options |= {"compress_level": PNG_LEVEL, "dpi": said.dpi, "pnginfo": _png_texts(said)}
    image = picture.image()
    image.info.clear()
    file = io.BytesIO()
    Image.Image.save(image, file, picture.format, **{name: value for name, value in options.items() if value})
    return file.getvalue()


def trial(picture: Picture, form: str, quality: int = QUALITY) -> None:
    """Write a corner of the picture with all that belongs to it, so that what cannot be written is known before work.

    Raises RejectedSample `unwritable`.
    """
    alpha = None if picture.alpha is None else picture.alpha[:8, :8]
    try:
        encode(fitted(replace(picture, colour=picture.colour[:8, :8], alpha=alpha), form), quality)
    except RejectedSample:
        raise
    except Exception as error:
        detail = f"as {form} it cannot be written: {' '.join(str(error).split())[:160]}; take another --format"
        raise RejectedSample("unwritable", detail) from None


def _iptc_segment(iptc: bytes | None) -> bytes:
    """The JPEG segment that holds an IPTC record, as Photoshop does."""
    if not iptc:
        return b""
    head = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(iptc))
    body = head + iptc + b"\0" * (len(iptc) % 2)
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


def _png_texts(said: Said) -> PngImagePlugin.PngInfo | None:
    """XMP and colour chunks; None where there are none."""
    if not said.xmp and not said.colour:
        return None
    chunks = PngImagePlugin.PngInfo()
    for name, value in said.colour:
        chunks.add(name, value)
    if said.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", said.xmp.decode("utf-8", "replace"))
    return chunks
