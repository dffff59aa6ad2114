"""Files that Pillow cannot write: PNG of 16 bits a channel, and TIFF with metadata copied as bytes."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from spasemsr.errors import RejectedSample
from spasemsr.images import exif
from spasemsr.images.exif import Block, Entry
from spasemsr.images.picture import Picture, Said

_STRIP_BYTES = 1 << 22  # of a TIFF, before compression
_TIFF_LIMIT = 2**32 - 2**20
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _ROWS, _COUNTS = (
    256, 257, 258, 259, 262, 273, 277, 278, 279,
)  # fmt: skip
_X_RESOLUTION, _Y_RESOLUTION, _PLANAR, _UNIT, _PREDICTOR, _EXTRA, _SAMPLE_FORMAT = 282, 283, 284, 296, 317, 338, 339
_XMP, _IPTC, _ICC = 700, 33723, 34675
_DEFLATE, _DIFFERENCES, _UNASSOCIATED, _INCHES = 8, 2, 2, 2
_BYTE, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 3, 4, 5, 7


def deep_png(picture: Picture, said: Said) -> bytes:
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
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)), *said.colour]
    if picture.icc:
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(picture.icc)))
    if said.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in said.dpi), 1)))
    if said.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + said.xmp))
    if said.exif:
        chunks.append((b"eXIf", said.exif))
    chunks += [(b"IDAT", piece) for piece in _pieces(b"".join(packed), 1 << 24)] + [(b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def tiff(picture: Picture, said: Said) -> bytes:
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
    described = exif.parse(said.exif) if said.exif else None
    block = exif.turned(described, "<") if described is not None else Block("<")
    tags = block.main
    if said.dpi:
        for tag, value in ((_X_RESOLUTION, said.dpi[0]), (_Y_RESOLUTION, said.dpi[1])):
            tags[tag] = Entry(_RATIONAL, 1, struct.pack("<II", round(value * 1000), 1000))
        tags[_UNIT] = _numbers(_SHORT, [_INCHES])
    tags[_WIDTH], tags[_HEIGHT] = _numbers(_LONG, [width]), _numbers(_LONG, [height])
    tags[_SAMPLES], tags[_PLANAR] = _numbers(_SHORT, [samples]), _numbers(_SHORT, [1])
    tags[_BITS], tags[_SAMPLE_FORMAT] = _numbers(_SHORT, [picture.bits] * samples), _numbers(_SHORT, [1] * samples)
    tags[_COMPRESSION], tags[_PREDICTOR] = _numbers(_SHORT, [_DEFLATE]), _numbers(_SHORT, [_DIFFERENCES])
    tags[_PHOTOMETRIC] = _numbers(_SHORT, [2 if samples > 2 else 1])
    if picture.alpha is not None:
        tags[_EXTRA] = _numbers(_SHORT, [_UNASSOCIATED])
    for tag, kind, block_ in ((_ICC, _UNDEFINED, picture.icc), (_XMP, _BYTE, said.xmp), (_IPTC, _UNDEFINED, said.iptc)):
        if block_:
            tags[tag] = Entry(kind, len(block_), block_)
    tags[_ROWS], tags[_COUNTS] = _numbers(_LONG, [rows]), _numbers(_LONG, list(map(len, strips)))
    tags[_OFFSETS] = _numbers(_LONG, [0] * len(strips))
    start = len(exif.serialise(block))
    tags[_OFFSETS] = _numbers(_LONG, [start + int(at) for at in np.cumsum([0, *map(len, strips[:-1])])])
    return exif.serialise(block) + b"".join(strips)


def _numbers(kind: int, values: list[int]) -> Entry:
    return Entry(kind, len(values), struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values))


def _stacked(picture: Picture) -> npt.NDArray:
    """(H, W, samples), colour then alpha."""
    return picture.colour if picture.alpha is None else np.dstack([picture.colour, picture.alpha])


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
