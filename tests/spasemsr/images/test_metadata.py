"""What a file says beside its pixels comes out as it went in, or is named as lost; one bad tag costs that tag."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from spasemsr.errors import RejectedSample
from spasemsr.images import exif, writing
from spasemsr.images.flat import decode
from spasemsr.images.picture import parse_picture
from spasemsr.images.stored import read_scored
from tests.worlds.odd_pictures import (
    ASCII,
    FORMATS,
    ICC,
    LONG,
    RATIONAL,
    SHORT,
    SIGNED_RATIONAL,
    UNDEFINED,
    encoded,
    picture,
    png,
    with_exif,
)
from tests.worlds.odd_pictures import exif as block_of

SIX = (0x0112, SHORT, 1, b"\6\0")
LIMIT = 10_000
# Metadata that libraries read and cannot write again, or cannot read at all; the picture lies on its side in each.
UNWRITABLE = {
    "minus one over zero": [SIX, (0x829A, SIGNED_RATIONAL, 1, struct.pack("<iI", -1, 0))],
    "a GPS byte stored as short": [SIX, (0x8825, SHORT, 1, b"\7\0")],
    "a rational of one byte": [SIX, (282, RATIONAL, 1, b"\1")],
    "a value outside the block": [SIX, (271, ASCII, 900, b"M")],
    "a type that does not exist": [SIX, (271, 99, 1, b"M\0\0\0")],
    "text that is no text": [SIX, (271, ASCII, 3, b"\xff\xfe\x00")],
    "orientation as text": [(0x0112, ASCII, 2, b"6\0")],
    "orientation twice": [(0x0112, SHORT, 2, b"\6\0\6\0")],
    "orientation as four bytes": [(0x0112, LONG, 1, b"\6\0\0\0")],
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("what", UNWRITABLE)
def test_orientation_is_applied_whatever_else_is_wrong(what, form, tmp_path):
    data = with_exif(block_of(UNWRITABLE[what]), form)
    flat, kept = decode(data, LIMIT), parse_picture(data, LIMIT)
    (tmp_path / "a").write_bytes(data)
    assert flat.pixels.shape == (20, 16, 3) and "exif_rotated" in flat.treatments
    assert read_scored(tmp_path / "a").pixels.shape == (20, 16, 3)
    assert kept.size == (16, 20)
    for out in FORMATS:  # and what comes out is upright, and says nothing else
        again = parse_picture(writing.encode(writing.fitted(kept, out)), LIMIT)
        assert again.size == (16, 20) and "exif_unreadable" not in again.notes


def test_one_bad_tag_costs_that_tag():
    good = (315, ASCII, 6, b"Maria\0")
    kept = parse_picture(with_exif(block_of([SIX, good, (271, ASCII, 900, b"M")])), LIMIT)
    assert kept.notes == ("exif_tags_dropped",)
    assert exif.parse(kept.said.exif).main == {315: exif.Entry(ASCII, 6, b"Maria\0")}


def test_a_block_without_a_header_is_no_orientation(tmp_path):
    broken = bytearray(block_of([SIX]))
    broken[2] = 10
    kept = parse_picture(with_exif(bytes(broken), "PNG"), LIMIT)
    assert kept.size == (20, 16) and kept.notes == ("exif_unreadable",)
    assert decode(with_exif(bytes(broken), "PNG"), LIMIT).pixels.shape == (16, 20, 3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("out", FORMATS)
def test_values_are_copied_unread(out, order):
    def number(form: str, *values: int) -> bytes:
        return struct.pack(order + form, *values)

    artist = "Zoë Müller 写真".encode() + b"\0"
    main = [(0x0112, SHORT, 1, number("H", 3)), (315, ASCII, len(artist), artist)]
    inner = [
        (0x829A, RATIONAL, 1, number("II", 1, 0)),
        (0x8827, LONG, 1, number("I", 70_000)),
        (0x927C, UNDEFINED, 40, bytes(range(40))),
        (0xA002, SHORT, 1, number("H", 20)),
        (0xA433, ASCII, 5, "Née\0".encode()),
    ]
    kept = parse_picture(with_exif(block_of(main, inner, order)), LIMIT)
    again = parse_picture(writing.encode(writing.fitted(kept, out)), LIMIT)
    block = exif.turned(exif.parse(again.said.exif), order)
    assert block.main[315].value == artist and 0x0112 not in block.main
    assert {tag: entry.value for tag, entry in block.exif.items() if tag != 0xA002} == {
        tag: value for tag, _, _, value in inner if tag != 0xA002
    }
    assert int.from_bytes(block.exif[0xA002].value, "little" if order == "<" else "big") == 20


def test_what_a_jpeg_cannot_hold_is_known_before_work_and_said():
    note, maker = b"x" * 70_000, (271, ASCII, 6, b"Maker\0")
    large = encoded(picture(), "PNG", exif=b"Exif\0\0" + block_of([maker], [(0x927C, UNDEFINED, len(note), note)]))
    kept = parse_picture(large, LIMIT)
    fitted = writing.fitted(kept, "JPEG")
    assert "exif_shortened" in fitted.notes and exif.parse(fitted.said.exif).main[271].value == b"Maker\0"
    assert parse_picture(writing.encode(fitted), LIMIT).said.exif == fitted.said.exif
    for out in ("PNG", "WEBP", "TIFF"):
        assert len(writing.fitted(kept, out).said.exif) > 70_000 and "exif_shortened" not in kept.notes


def test_what_cannot_be_written_at_all_is_refused_by_the_trial(monkeypatch):
    kept = parse_picture(encoded(picture()), LIMIT)

    def refuse(*args, **kwargs):
        raise ValueError("no such colour")

    monkeypatch.setattr(Image.Image, "save", refuse)
    with pytest.raises(RejectedSample, match="unwritable: as JPEG it cannot be written: no such colour"):
        writing.trial(kept, "JPEG")


# Beside EXIF: XMP, IPTC, resolution, colour.

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" dc:title="Fa\xc3\xa7ade"/></x:xmpmeta>'
IPTC = b"\x1c\x02\x05\x00\x04Nice"
HELD = {  # by format: of XMP, IPTC, resolution, gAMA
    "JPEG": (True, True, True, False), "PNG": (True, False, True, True), "WEBP": (True, False, False, False),
    "TIFF": (True, True, True, False),
}  # fmt: skip


def jpeg_with_everything() -> bytes:
    segment = b"Photoshop 3.0\0" + b"8BIM\4\4\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0" * (len(IPTC) % 2)
    segment = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    return encoded(picture(), "JPEG", xmp=XMP, dpi=(300, 300), extra=segment)


@pytest.mark.parametrize("out", FORMATS)
def test_xmp_iptc_and_resolution_are_kept_or_named(out):
    kept = parse_picture(jpeg_with_everything(), LIMIT)
    assert kept.size == (16, 20) and kept.said.iptc == IPTC and kept.said.dpi == (300, 300)
    fitted = writing.fitted(kept, out)
    again = parse_picture(writing.encode(fitted), LIMIT)
    xmp, iptc, dpi, _ = HELD[out]
    assert (again.said.xmp == XMP.replace(b'"6"', b'"1"')) is xmp and again.size == (16, 20)
    assert (again.said.iptc == IPTC) is iptc and ("iptc_dropped" in fitted.notes) is not iptc
    assert ("dpi_dropped" in fitted.notes) is not dpi
    if out == "TIFF":
        with Image.open(io.BytesIO(writing.encode(fitted))) as image:
            assert image.info["dpi"] == (300, 300)
    elif dpi:
        assert again.said.dpi == pytest.approx((300, 300), abs=0.01)


STATED = {
    "gama": (b"gAMA", struct.pack(">I", 100_000)),
    "chrm": (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    "cicp": (b"cICP", b"\x0c\x0d\x00\x01"),
}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("what", STATED)
def test_colour_stated_outside_a_profile_is_kept_or_named(what, depth, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (12, 12 * 3 * depth // 8)).astype(np.uint8)
    data = png(depth, 2, rows, STATED[what])
    (tmp_path / "a.png").write_bytes(data)
    assert f"{what}_ignored" in decode(data, LIMIT).treatments
    assert f"{what}_ignored" in read_scored(tmp_path / "a.png").treatments
    kept = parse_picture(data, LIMIT)
    for out in FORMATS:
        fitted = writing.fitted(kept, out)
        again = parse_picture(writing.encode(fitted), LIMIT)
        held = HELD[out][3]
        assert (again.said.colour == (STATED[what],)) is held and (f"{what}_dropped" in fitted.notes) is not held


def test_what_means_srgb_is_no_news():
    rows = np.zeros((8, 24), np.uint8)
    for chunks in ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455))], [(b"gAMA", struct.pack(">I", 45455))]):
        assert decode(png(8, 2, rows, *chunks), LIMIT).treatments == ()


def test_the_profile_of_a_palette_is_used_and_kept():
    data = encoded(picture().quantize(16), "PNG", icc_profile=ICC)
    assert decode(data, LIMIT).treatments == ("palette", "icc_to_srgb")
    kept = parse_picture(data, LIMIT)
    assert all(parse_picture(writing.encode(writing.fitted(kept, out)), LIMIT).icc == ICC for out in FORMATS)
