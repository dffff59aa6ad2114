"""One level or colour that a PNG declares transparent is transparent at every depth, for every reader."""

import struct

import numpy as np
import pytest

from spasemsr.errors import UserError
from spasemsr.images.flat import decode
from spasemsr.images.picture import parse_picture
from spasemsr.images.stored import read_scored
from tests.worlds.odd_pictures import png

LIMIT = 10_000


def gray(depth: int, *chunks: tuple[bytes, bytes]) -> tuple[bytes, np.ndarray]:
    """A PNG of 16x16 gray levels of a depth, and the levels."""
    levels = np.arange(256).reshape(16, 16) % 2**depth if depth < 16 else np.arange(256).reshape(16, 16) * 257
    bits = (levels[..., None] >> np.arange(depth)[::-1]) & 1
    return png(depth, 0, np.packbits(bits.reshape(16, -1), axis=1), *chunks), levels


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_level_of_gray(depth, tmp_path):
    level = 1 if depth < 16 else 257 * 77
    data, levels = gray(depth, (b"tRNS", struct.pack(">H", level)))
    hidden = levels == level
    assert 0 < hidden.sum() < hidden.size
    kept = parse_picture(data, LIMIT)
    assert kept.mode == "gray+alpha" and np.array_equal(kept.alpha == 0, hidden) and kept.bits == max(8, depth)
    flat = decode(data, LIMIT)
    assert "alpha_over_white" in flat.treatments and (flat.pixels[hidden] == 255).all()
    plain = decode(gray(depth)[0], LIMIT).pixels
    assert np.array_equal(flat.pixels[~hidden], plain[~hidden])
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match="transparent pixels"):
        read_scored(tmp_path / "a.png")


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour(depth, tmp_path):
    levels = np.random.default_rng(0).integers(0, 3, (12, 12, 3)) * (100 if depth == 8 else 20_000)
    dtype = np.uint8 if depth == 8 else ">u2"
    data = png(
        depth, 2, levels.astype(dtype).view(np.uint8).reshape(12, -1), (b"tRNS", struct.pack(">3H", *levels[3, 4]))
    )
    hidden = (levels == levels[3, 4]).all(axis=2)
    kept = parse_picture(data, LIMIT)
    assert kept.mode == "rgb+alpha" and np.array_equal(kept.alpha == 0, hidden)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match="transparent pixels"):
        read_scored(tmp_path / "a.png")


def test_a_level_that_does_not_occur_hides_nothing(tmp_path):
    data, _ = gray(16, (b"tRNS", struct.pack(">H", 3)))
    (tmp_path / "a.png").write_bytes(data)
    assert (parse_picture(data, LIMIT).alpha == 65535).all()
    assert read_scored(tmp_path / "a.png").treatments == ("16_bit", "opaque_alpha")
