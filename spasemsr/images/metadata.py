"""What a file says beside its pixels, found in one place for every reader: EXIF, XMP, IPTC, resolution, colour.

PNG can state colour outside an ICC profile: gAMA (the transfer function as an exponent), cHRM (the primaries), cICP
(both by number), sRGB (that it is sRGB).
"""

import contextlib
import struct
from collections.abc import Iterator

from PIL import Image

from spasemsr.images import exif

COLOUR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SRGB_CICP = b"\x01\x0d\x00\x01"
_SRGB_GAMMA = 45455
_SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_XMP_TAG, _IPTC_TAG = 700, 33723
_IPTC_RESOURCE = 0x0404
_CENTIMETRES = 2


def exif_of(image: Image.Image, data: bytes | None) -> exif.Block | None:
    """The EXIF of a loaded image; for a TIFF, the directory of the file `data`. None where there is none to read."""
    raw = image.info.get("exif")
    if raw is None and "Raw profile type exif" in image.info:
        with contextlib.suppress(ValueError, AttributeError):
            raw = bytes.fromhex("".join(str(image.info["Raw profile type exif"]).split("\n")[3:]))
    if raw is None and image.format == "TIFF":
        raw = data
        if raw is None:
            with contextlib.suppress(Exception):  # Pillow writes what it has read, where it can
                raw = image.getexif().tobytes()
    return exif.parse(raw) if isinstance(raw, bytes) else None


def orientation_of(image: Image.Image, data: bytes | None) -> int:
    """How a file says that its pixels lie, 1 to 8; EXIF first, then XMP; 1 where neither can be read."""
    block = exif_of(image, data)
    if block is not None and exif.ORIENTATION in block.main:
        return block.orientation
    return exif.orientation_in_xmp(xmp_of(image) or b"")


def left_to_turn(image: Image.Image, stated: int) -> int:
    """What of a stated orientation a loaded image's pixels still need: Pillow turns a TIFF while it loads it.

    It forgets the tag then; a tag that it does not understand, such as text, stays and is left to us.
    """
    return 1 if image.format == "TIFF" and exif.ORIENTATION not in image.getexif() else stated


def xmp_of(image: Image.Image) -> bytes | None:
    """The XMP packet of any format."""
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or _tiff_value(image, _XMP_TAG)
    if isinstance(found, str):
        found = found.encode("utf-8", "replace")
    return found if isinstance(found, bytes) and found else None


def iptc_of(image: Image.Image) -> bytes | None:
    """The IPTC record of a JPEG or TIFF."""
    resources = image.info.get("photoshop")
    found = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else _tiff_value(image, _IPTC_TAG)
    return found if isinstance(found, bytes) and found else None


def dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch across and down, where a JPEG or PNG states them itself (TIFF and EXIF have tags for it)."""
    found = None
    if image.format in ("JPEG", "MPO"):  # Pillow's "dpi" may be its own guess
        unit, density = image.info.get("jfif_unit"), image.info.get("jfif_density")
        if unit in (1, _CENTIMETRES) and density:
            found = tuple(float(value) * (2.54 if unit == _CENTIMETRES else 1) for value in density)
    elif image.format == "PNG":
        found = image.info.get("dpi")
    if not isinstance(found, tuple) or len(found) != 2:
        return None
    return found if all(0 < value < 1e6 for value in found) else None


def colour_chunks(data: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    """What a PNG says of its colour outside an ICC profile; nothing for other files."""
    if not data or not data.startswith(_PNG_SIGNATURE):
        return ()
    return tuple((name, value) for name, value in _chunks(data) if name in COLOUR_CHUNKS)


def other_colour(chunks: tuple[tuple[bytes, bytes], ...]) -> list[str]:
    """Names of statements that mean another colour than sRGB, such as `gama`; cICP rules sRGB, sRGB the others."""
    stated = dict(chunks)
    if b"cICP" in stated:
        return ["cicp"] if stated[b"cICP"] != _SRGB_CICP else []
    if b"sRGB" in stated:
        return []
    other = []
    gamma, primaries = stated.get(b"gAMA", b""), stated.get(b"cHRM", b"")
    if len(gamma) == 4 and abs(struct.unpack(">I", gamma)[0] / _SRGB_GAMMA - 1) > 0.02:
        other.append("gama")
    if len(primaries) == 32:
        values = struct.unpack(">8I", primaries)
        if any(abs(one - two) > 500 for one, two in zip(values, _SRGB_PRIMARIES, strict=True)):
            other.append("chrm")
    return other


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG before its pixels, as far as they can be followed."""
    place = len(_PNG_SIGNATURE)
    while place + 12 <= len(data):
        length, name = struct.unpack(">I", data[place : place + 4])[0], data[place + 4 : place + 8]
        if name in (b"IDAT", b"IEND") or place + 12 + length > len(data):
            return
        yield name, data[place + 8 : place + 8 + length]
        place += 12 + length


def _tiff_value(image: Image.Image, tag: int) -> bytes | None:
    with contextlib.suppress(Exception):  # one bad tag costs that tag
        value = getattr(image, "tag_v2", {}).get(tag)
        if isinstance(value, tuple) and all(isinstance(part, int) for part in value):
            value = bytes(value) if max(value, default=0) < 256 else struct.pack(f"<{len(value)}I", *value)
        return value if isinstance(value, bytes) else None
    return None
