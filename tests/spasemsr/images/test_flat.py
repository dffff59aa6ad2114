"""Untrusted files in, defined pixels or a countable reason out."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from spasemsr.errors import RejectedSample
from spasemsr.images.flat import decode, read_image
from tests.worlds.odd_pictures import chunk, encoded

LIMIT = 1_000_000


def ramp(height: int = 24, width: int = 40) -> np.ndarray:
    """A picture in which every pixel's place can be told from its value."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 5, x * 4, (y + x) * 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_lossless_formats_keep_every_pixel(form, options):
    assert np.array_equal(decode(encoded(Image.fromarray(ramp()), form, **options), LIMIT).pixels, ramp())


def test_jpeg_is_close():
    decoded = decode(encoded(Image.fromarray(ramp()), "JPEG", quality=95), LIMIT)
    assert np.abs(decoded.pixels.astype(int) - ramp()).mean() < 4


def test_gray_one_bit_and_palette_become_rgb():
    gray = Image.fromarray(ramp()[..., 0])
    assert decode(encoded(gray, "PNG"), LIMIT).treatments == ("gray",)
    assert np.array_equal(decode(encoded(gray, "PNG"), LIMIT).pixels[..., 2], ramp()[..., 0])
    assert decode(encoded(gray.convert("1"), "PNG"), LIMIT).treatments == ("one_bit",)
    assert decode(encoded(Image.fromarray(ramp()).quantize(16), "PNG"), LIMIT).treatments == ("palette",)


def test_alpha_is_composited_over_white():
    rgba = np.dstack([ramp(), np.full(ramp().shape[:2], 255, np.uint8)])
    rgba[:, :10, 3] = 0
    rgba[:, 10:20, 3] = 128
    decoded = decode(encoded(Image.fromarray(rgba, "RGBA"), "PNG"), LIMIT)
    assert decoded.treatments == ("alpha_over_white",)
    assert (decoded.pixels[:, :10] == 255).all()
    assert np.array_equal(decoded.pixels[:, 20:], ramp()[:, 20:])
    half = (ramp()[:, 10:20].astype(float) * 128 + 255 * 127) / 255
    assert np.abs(decoded.pixels[:, 10:20] - half).max() <= 1


def test_sixteen_bit_gray_maps_full_range_to_full_range():
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    for form in ("PNG", "TIFF"):
        decoded = decode(encoded(Image.fromarray(values), form), LIMIT)
        assert np.abs(decoded.pixels[..., 0] - values / 257).max() <= 0.5
        assert "gray_16_bit" in decoded.treatments


def test_cmyk_becomes_rgb():
    assert decode(encoded(Image.fromarray(ramp()).convert("CMYK"), "JPEG"), LIMIT).treatments == ("cmyk",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    stored = Image.fromarray(ramp())
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encoded(stored, "PNG", exif=exif), LIMIT)
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
            5: lambda a: np.transpose(a, (1, 0, 2)), 6: lambda a: np.rot90(a, 1),
            7: lambda a: np.rot90(np.transpose(a, (1, 0, 2)), 2), 8: lambda a: np.rot90(a, -1)}  # fmt: skip
    assert np.array_equal(undo[orientation](decoded.pixels), ramp())


def test_icc_profile_is_converted_and_a_broken_one_counts_as_none():
    image = Image.fromarray(ramp())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    good = decode(encoded(image, "PNG", icc_profile=profile), LIMIT)
    assert good.treatments == ("icc_to_srgb",)
    assert np.abs(good.pixels.astype(int) - ramp()).max() <= 1
    broken = decode(encoded(image, "PNG", icc_profile=b"no profile"), LIMIT)
    assert broken.treatments == ("icc_unreadable",)
    assert np.array_equal(broken.pixels, ramp())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated_files_are_rejected_whole(form):
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)), form)
    with pytest.raises(RejectedSample) as error:
        decode(whole[: int(len(whole) * 0.6)], LIMIT)
    assert error.value.reason in ("truncated", "corrupt")


def test_a_header_that_lies_about_its_size_is_stopped_before_decoding():

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(RejectedSample, match="too_large"):
        decode(bomb, LIMIT)


def test_other_formats_are_named_not_guessed():
    with pytest.raises(RejectedSample) as error:
        decode(encoded(Image.fromarray(ramp()), "GIF"), LIMIT)
    assert error.value.reason == "unsupported_format"
    with pytest.raises(RejectedSample) as error:
        decode(encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), LIMIT)
    assert error.value.reason == "unsupported_mode"


def test_files_are_limited_in_bytes_and_must_have_some(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    with pytest.raises(RejectedSample, match="empty"):
        read_image(path, 50, LIMIT)
    path.write_bytes(encoded(Image.fromarray(ramp()), "PNG"))
    with pytest.raises(RejectedSample, match="over the limit of 50"):
        read_image(path, 50, LIMIT)
    with pytest.raises(RejectedSample, match="unreadable"):
        read_image(tmp_path / "missing.png", 100, LIMIT)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), form=st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF"]))
def test_damaged_bytes_end_in_pixels_or_a_reason(data, form):
    whole = bytearray(encoded(Image.fromarray(ramp()), form))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(whole), LIMIT)
    except RejectedSample as reject:
        assert reject.reason and reject.detail
    else:
        assert decoded.pixels.dtype == np.uint8 and decoded.pixels.shape[2] == 3
