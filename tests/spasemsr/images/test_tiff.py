"""TIFFs of kinds that Pillow and OpenCV turn, take for a negative or take apart: right in every reader, or refused."""

import struct

import numpy as np
import pytest

from spasemsr.errors import RejectedSample, UserError
from spasemsr.images.flat import decode, upright
from spasemsr.images.picture import parse_picture
from spasemsr.images.stored import read_scored
from tests.worlds.odd_pictures import SHORT, picture, tiff

LIMIT = 10_000
GRAY, RGB, WHITE_IS_ZERO = 1, 2, 0
DEPTHS = [np.uint8, np.uint16]


def samples(dtype: type, channels: int = 3) -> np.ndarray:
    """(16, 20, C) of full range."""
    planes = [np.asarray(picture(seed=c).convert("L")) for c in range(channels)]
    return np.dstack(planes).astype(dtype) * (257 if dtype == np.uint16 else 1)


def read_by_all(data: bytes, tmp_path) -> list[np.ndarray]:
    """What upscale, ingest and score make of a file, each (H, W, 1 or 3) uint8."""
    (tmp_path / "a.tif").write_bytes(data)
    kept = parse_picture(data, LIMIT)
    assert kept.alpha is None
    return [kept.eight_bit().colour, decode(data, LIMIT).pixels, read_scored(tmp_path / "a.tif").pixels]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("channels", [1, 3])
def test_orientation_is_applied_once(orientation, dtype, channels, tmp_path):
    stored = samples(dtype, channels)
    data = tiff(stored, GRAY if channels == 1 else RGB, (0x0112, SHORT, 1, struct.pack("<H", orientation)))
    right = upright(samples(np.uint8, channels), orientation)
    for read in read_by_all(data, tmp_path):
        assert np.array_equal(read, np.broadcast_to(right, read.shape))
    assert ("exif_rotated" in decode(data, LIMIT).treatments) == (orientation > 1)
    assert ("exif_rotated" in read_scored(tmp_path / "a.tif").treatments) == (orientation > 1)


@pytest.mark.parametrize("dtype", DEPTHS)
def test_gray_whose_zero_is_white_is_no_negative(dtype, tmp_path):
    for read in read_by_all(tiff(samples(dtype, 1), WHITE_IS_ZERO), tmp_path):
        assert np.array_equal(read, np.broadcast_to(255 - samples(np.uint8, 1), read.shape))


@pytest.mark.parametrize("dtype", DEPTHS)
def test_a_fourth_channel_of_no_stated_meaning_is_not_alpha(dtype, tmp_path):
    for read in read_by_all(tiff(samples(dtype, 4), RGB, (338, SHORT, 1, b"\0\0")), tmp_path):
        assert np.array_equal(read, samples(np.uint8))


def test_channels_that_lie_apart_are_read_at_8_bits_and_refused_at_16(tmp_path):
    for read in read_by_all(tiff(samples(np.uint8), RGB, apart=True), tmp_path):
        assert np.array_equal(read, samples(np.uint8))
    refused(tiff(samples(np.uint16), RGB, apart=True), "unsupported_mode", "one after the other", tmp_path)


@pytest.mark.parametrize(
    ("stored", "reason", "said"),
    [
        (samples(np.float32), "floats", "floats"),
        (samples(np.float64, 1), "floats", "floats"),
        (samples(np.int16), "unsupported_mode", "signed numbers"),
        (samples(np.uint32), "unsupported_mode", "3 channels of 32 bits"),
        (samples(np.uint16, 2), "unsupported_mode", "2 channels of 16 bits"),
    ],
)
def test_what_is_whole_but_not_read_is_not_called_corrupt(stored, reason, said, tmp_path):
    refused(tiff(stored, GRAY if stored.shape[2] < 3 else RGB), reason, said, tmp_path)


def refused(data: bytes, reason: str, said: str, tmp_path) -> None:
    for read in (decode, parse_picture):
        with pytest.raises(RejectedSample, match=f"{said}.*write it again") as error:
            read(data, LIMIT)
        assert error.value.reason == reason
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=said):
        read_scored(tmp_path / "a.tif")
