"""Picture -> the bytes of a JPEG, PNG, WebP or TIFF file, with its depth, alpha, ICC profile and EXIF.

Pillow writes what it can hold. 16-bit PNG and all TIFF are written here, because Pillow has no 16-bit colour.

| format | bits | alpha | gray | most pixels a side |
|---|---|---|---|---|
| PNG, TIFF | 8, 16 | yes | yes | 2 147 483 647 (TIFF: 4 GB a file) |
| WebP | 8 | yes | as RGB | 16 383 |
| JPEG | 8 | over white | yes | 65 500 |
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from spasemsr.errors import RejectedSample
from spasemsr.images.picture import Picture, resized_exif

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif"}
FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF"}
MAX_SIDE = {"JPEG": 65_500, "PNG": 2**31 - 1, "WEBP": 16_383, "TIFF": 2**31 - 1}
QUALITY = 95
_STRIP_BYTES = 1 << 22  # of a TIFF, before compression
_TIFF_LIMIT = 2**32 - 2**20
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _ROWS, _COUNTS = (
    256, 257, 258, 259, 262, 273, 277, 278, 279,
)  # fmt: skip
_PLANAR, _PREDICTOR, _EXTRA, _SAMPLE_FORMAT, _ICC = 284, 317, 338, 339, 34675
_DEFLATE, _DIFFERENCES, _UNASSOCIATED = 8, 2, 2


def require_fit(form: str, width: int, height: int) -> None:
    """Raise RejectedSample `too_large_for_format` before any work if a format cannot hold so many pixels a side."""
    if max(width, height) > MAX_SIDE[form]:
        detail = f"{form} holds at most {MAX_SIDE[form]} pixels a side, the result has {width}x{height}; take PNG"
        raise RejectedSample("too_large_for_format", detail)


def fitted(picture: Picture, form: str) -> Picture:
    """The picture as a format can hold it; what is lost is said in its notes."""
    picture = replace(picture, format=form)
    if form in ("JPEG", "WEBP"):
        picture = picture.eight_bit()
    if form == "JPEG" and picture.alpha is not None:
        share = picture.alpha[..., None].astype(np.float32) / 255
        over_white = np.rint(picture.colour * share + 255 * (1 - share)).astype(np.uint8)
        picture = replace(picture, colour=over_white, alpha=None, notes=(*picture.notes, "alpha_over_white"))
    rgb_only = form == "WEBP" or (form == "TIFF" and picture.bits == 16 and picture.alpha is not None)
    if rgb_only and picture.colour.shape[2] == 1:  # few readers know gray with alpha of 16 bits in a TIFF
        notes = (*picture.notes, "gray_as_rgb", *(["icc_dropped"] if picture.icc else []))
        rgb: Any = np.repeat(picture.colour, 3, axis=2)  # as deep as it was, which NumPy's types do not say
        picture = replace(picture, colour=rgb, icc=None, notes=notes)
    return picture


def encode(picture: Picture, quality: int = QUALITY) -> bytes:
    """The file of a fitted picture; the same picture gives the same bytes."""
    exif = resized_exif(picture.exif, *picture.size) if picture.exif else None
    if picture.format == "TIFF":
        return _tiff(picture, exif)
    if picture.bits == 16:
        return _png16(picture, exif)
    options: dict[str, object] = {"icc_profile": picture.icc, "exif": exif or b""}
    match picture.format:
        case "JPEG":
            options |= {"quality": quality, "subsampling": 0, "optimize": True}
        case "WEBP":
            options |= {"quality": quality, "method": 4, "exact": True}
        case "PNG":
            options |= {"compress_level": 6}
    image = picture.image()
    image.info.clear()
    file = io.BytesIO()
    image.save(file, picture.format, **{name: value for name, value in options.items() if value})
    return file.getvalue()


def _stacked(picture: Picture) -> npt.NDArray:
    """(H, W, samples), colour then alpha."""
    return picture.colour if picture.alpha is None else np.dstack([picture.colour, picture.alpha])


def _png16(picture: Picture, exif: bytes | None) -> bytes:
    """PNG, 16 bits, every row filtered by the difference to the row above (filter type 2)."""
    planes = _stacked(picture)
    height, width, samples = planes.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[samples]
    rows = np.ascontiguousarray(planes.astype(">u2")).view(np.uint8).reshape(height, -1)
    packer, packed, above = zlib.compressobj(6), [], np.zeros_like(rows[0])
    for row in rows:
        packed.append(packer.compress(b"\2" + (row - above).tobytes()))
        above = row
    packed.append(packer.flush())
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if picture.icc:
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(picture.icc)))
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", piece) for piece in _pieces(b"".join(packed), 1 << 24)] + [(b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _tiff(picture: Picture, exif: bytes | None) -> bytes:
    """Baseline TIFF in strips, Deflate on horizontal differences; EXIF tags lie in the same directory."""
    planes = _stacked(picture)
    height, width, samples = planes.shape
    rows = max(_STRIP_BYTES // max(width * samples * planes.itemsize, 1), 1)
    strips = []
    for start in range(0, height, rows):
        strip = planes[start : start + rows].astype(planes.dtype.newbyteorder("<"))
        strip[:, 1:] -= strip[:, :-1].copy()
        strips.append(zlib.compress(strip.tobytes(), 6))
    if sum(map(len, strips)) > _TIFF_LIMIT:
        raise RejectedSample("too_large_for_format", "a TIFF file holds at most 4 GB; take PNG")
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    if exif:
        block = Image.Exif()
        block.load(exif)
        for tag in block:
            tags[tag] = dict(block.get_ifd(tag)) if tag in (0x8769, 0x8825) else block[tag]
    tags[_WIDTH], tags[_HEIGHT], tags[_SAMPLES], tags[_PLANAR] = width, height, samples, 1
    tags[_BITS], tags[_SAMPLE_FORMAT] = (picture.bits,) * samples, (1,) * samples
    tags[_COMPRESSION], tags[_PREDICTOR] = _DEFLATE, _DIFFERENCES
    tags[_PHOTOMETRIC] = 2 if samples > 2 else 1
    if picture.alpha is not None:
        tags[_EXTRA] = _UNASSOCIATED
    if picture.icc:
        tags[_ICC] = picture.icc
    tags[_ROWS] = rows
    tags[_COUNTS] = tuple(len(strip) for strip in strips)
    starts = np.cumsum([0, *map(len, strips[:-1])])
    tags[_OFFSETS] = tuple(int(start) for start in starts)  # from the end of the directory, as Pillow wants them
    file = io.BytesIO()
    tags.save(file)
    return file.getvalue() + b"".join(strips)
