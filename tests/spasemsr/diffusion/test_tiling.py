"""Tiles cover, blend and carry boxes; the colour fix and the padding beside them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.diffusion.colorfix import adain, fix_colors, low_band, wavelet
from spasemsr.diffusion.tiling import (
    Tile,
    boxes_in_tile,
    gaussian_weights,
    pad_reflect,
    stitch,
    tile_grid,
    together,
)
from spasemsr.errors import UserError

sizes = st.integers(1, 70)


@settings(deadline=None)
@given(sizes, sizes, st.integers(4, 24), st.integers(0, 3))
def test_tiles_cover_every_cell_and_overlap_as_asked(height, width, tile, overlap):
    tiles = tile_grid(height, width, tile, overlap)
    count = np.zeros((height, width), int)
    for part in tiles:
        assert (part.height, part.width) == (min(tile, height), min(tile, width))
        assert 0 <= part.y <= height - part.height and 0 <= part.x <= width - part.width
        count[part.y : part.y + part.height, part.x : part.x + part.width] += 1
    assert count.min() >= 1
    for starts, length in (({part.y for part in tiles}, height), ({part.x for part in tiles}, width)):
        ordered = sorted(starts)
        assert all(b - a <= tile - overlap for a, b in pairwise(ordered))
        assert ordered[-1] == max(length - tile, 0)


def test_a_latent_that_fits_is_one_tile_and_a_silly_overlap_is_refused():
    assert tile_grid(32, 96, 96, 16) == [Tile(0, 0, 32, 96)]
    assert len(tile_grid(97, 32, 96, 16)) == 2
    with pytest.raises(UserError, match="tile_overlap"):
        tile_grid(200, 200, 16, 16)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (17, 32)])
def test_weights_are_positive_and_symmetric_on_both_axes(height, width):
    weights = gaussian_weights(height, width)
    assert weights.shape == (height, width)
    assert (weights > 0).all()
    assert torch.equal(weights, weights.flip(0))
    assert torch.equal(weights, weights.flip(1))
    centre = weights[(height - 1) // 2, (width - 1) // 2]
    assert centre == weights.max()


@settings(deadline=None, max_examples=25)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(4, 12), st.integers(0, 3), st.floats(-3, 3))
def test_a_constant_output_is_stitched_to_the_constant(height, width, tile, overlap, value):
    latents = torch.zeros(2, 3, height, width)
    tiles = tile_grid(height, width, tile, overlap)
    stitched = stitch(latents, tiles, [torch.full_like(tile.crop(latents), value) for tile in tiles])
    assert torch.allclose(stitched, torch.full_like(latents, value), atol=1e-5)


def test_what_depends_on_the_place_alone_survives_tiling():
    latents = torch.randn(1, 2, 30, 41, generator=torch.Generator().manual_seed(0))
    tiles = tile_grid(30, 41, 16, 4)
    stitched = stitch(latents, tiles, [2 * tile.crop(latents) for tile in tiles])
    assert torch.allclose(stitched, 2 * latents, atol=1e-5)
    assert stitch(latents, tile_grid(30, 41, 64, 4), [latents]) is latents


def test_small_tiles_share_a_call_and_large_ones_do_not():
    small, large = tile_grid(64, 64, 24, 4), tile_grid(64, 64, 64, 8)
    assert [list(group) for group in together(small, 1)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert [len(group) for group in together(small[:5], 1)] == [2, 3]
    assert [len(group) for group in together(small[:3], 1)] == [3]
    assert {len(group) for group in together(368 * small[:1], 1)} == {8}
    assert [len(group) for group in together(small, 4)] == [1, 2, 2, 2, 2]
    assert together(large, 1) == [range(1)]


@st.composite
def boxes(draw):
    count = draw(st.integers(0, 6))
    corner = st.floats(0, 1, width=32)
    rows = [[draw(corner) for _ in range(4)] for _ in range(count)]
    rows = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in rows]
    return np.array(rows, np.float32).reshape(-1, 4)


@settings(deadline=None)
@given(boxes(), st.integers(0, 20), st.integers(0, 30))
def test_boxes_come_back_as_their_visible_part(boxes_N4, y, x):
    height, width, tile = 40, 52, Tile(y, x, 20, 22)
    seen, kept = boxes_in_tile(boxes_N4, tile, height, width)
    assert seen.dtype == np.float32 and len(seen) == len(kept)
    assert ((seen >= 0) & (seen <= 1)).all()
    assert list(kept) == sorted(kept)
    window = np.array([x / width, y / height, (x + 22) / width, (y + 20) / height])
    expected = np.concatenate(
        [np.maximum(boxes_N4[kept][:, :2], window[:2]), np.minimum(boxes_N4[kept][:, 2:], window[2:])], axis=1
    )
    origin, extent = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    assert np.allclose(origin + seen * extent, expected, atol=1e-5)
    for index, box in enumerate(boxes_N4.astype(float)):
        corner = np.minimum(box[2:], window[2:]) - np.maximum(box[:2], window[:2])
        visible = np.prod(np.maximum(corner, 0))
        whole, tile_area = np.prod(box[2:] - box[:2]), np.prod(window[2:] - window[:2])
        clearly = visible > 0.101 * whole and visible > 0.0101 * tile_area
        hardly = visible < 0.099 * whole or visible < 0.0099 * tile_area
        assert not (clearly and index not in kept)
        assert not (hardly and index in kept)


def test_a_padded_image_keeps_its_objects_and_moves_their_boxes():
    boxes_N4 = np.array([[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.55, 0.55]], np.float32)
    seen, kept = boxes_in_tile(boxes_N4, Tile(0, 0, 16, 16), 12.5, 8)
    assert kept.tolist() == [0, 1]  # the small one too: only tiles drop objects
    assert np.allclose(seen[0], [0, 0, 0.5, 0.78125])
    untouched, _ = boxes_in_tile(boxes_N4, Tile(0, 0, 16, 16), 16, 16)
    assert np.array_equal(untouched, boxes_N4)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 150), st.integers(1, 150))
def test_padding_reflects_as_numpy_does(height, width):
    image = np.random.default_rng(0).random((1, 2, height, width)).astype(np.float32)
    padded = pad_reflect(torch.from_numpy(image), 64).numpy()
    below, right = -height % 64, -width % 64
    assert padded.shape == (1, 2, height + below, width + right)
    assert np.array_equal(padded, np.pad(image, ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect"))


def random_images(seed):
    return torch.rand(2, 3, 48, 40, generator=torch.Generator().manual_seed(seed))


def test_adain_gives_the_colours_of_the_lr():
    restored, lr_up = random_images(0) * 0.3, random_images(1) * 0.5 + 0.2
    fixed = adain(restored, lr_up)
    assert torch.allclose(fixed.mean((2, 3)), lr_up.mean((2, 3)), atol=1e-5)
    assert torch.allclose(fixed.std((2, 3)), lr_up.std((2, 3)), atol=1e-5)
    assert torch.allclose(adain(lr_up, lr_up), lr_up, atol=1e-5)
    assert torch.isfinite(adain(torch.full_like(restored, 0.5), lr_up)).all()


def test_wavelet_takes_the_low_band_of_the_lr_and_keeps_the_high_one():
    restored, lr_up = random_images(0), random_images(1)
    assert torch.allclose(wavelet(restored, restored), restored, atol=1e-6)
    cast = restored + torch.tensor([0.2, -0.1, 0.05]).view(3, 1, 1)
    assert torch.allclose(wavelet(cast, restored), restored, atol=1e-5)
    high = wavelet(restored, lr_up) - low_band(lr_up)
    assert torch.allclose(high, restored - low_band(restored), atol=1e-6)
    flat = torch.full_like(restored, 0.3)
    assert torch.allclose(low_band(flat), flat, atol=1e-6)
    assert low_band(restored).std() < 0.1 * restored.std()


def test_colour_fixes_end_in_the_range_of_images():
    restored = 3 * random_images(0) - 1
    for kind in ("adain", "wavelet", "none"):
        fixed = fix_colors(kind, restored, random_images(1))
        assert fixed.min() >= 0 and fixed.max() <= 1
    assert torch.equal(fix_colors("none", restored, restored), restored.clamp(0, 1))
