"""Colour casts and grids: the measures see them, and the shipped weights add neither to photographs unknown to them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from spasemsr.data.degradation import degrade_variant
from spasemsr.data.sources import Sources
from spasemsr.data.spec import DegradationSpec
from spasemsr.evaluation.artifacts import colour_shift, grid_strength
from spasemsr.images.flat import read_image
from spasemsr.upscaling.upscaler import Upscaler
from tests.worlds import ROOT

NANO = ROOT / "data/pretrained/nano"
NEVER_TRAINED_ON = (("package:skimage", "chelsea.png"), ("package:sklearn", "china.jpg"))
SIDE = 256
# Grey levels of a repeated pattern, by dial: photographs themselves have up to 0.3, and 0.5 is what rounding adds.
LEVELS = {0.5: 0.3, 1.0: 0.75}


def square(source: str, name: str) -> np.ndarray:
    """The central square of a photograph that a package ships."""
    pixels = read_image(Sources((), Path()).file(source, name), 100_000_000, 40_000_000).pixels
    y, x = ((side - SIDE) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE])


@pytest.mark.parametrize(("source", "name"), NEVER_TRAINED_ON)
@pytest.mark.parametrize("preset", ["seesr", "stablesr"])
def test_the_shipped_weights_add_no_cast_and_no_grid(source, name, preset):
    spec = DegradationSpec.model_validate({"preset": preset})
    lr = degrade_variant(square(source, name), spec, 4, 1, name, 0).lr
    upscaler = Upscaler.from_pretrained(NANO)
    for dial, levels in LEVELS.items():
        restored = np.asarray(upscaler(Image.fromarray(lr), dial=dial))
        assert colour_shift(restored, lr) < 2
        assert grid_strength(restored) < levels, dial


@pytest.mark.parametrize("amplitude", [1.0, 4.0])
def test_a_grid_is_measured_in_grey_levels(amplitude):
    noise = np.random.default_rng(1).normal(128, 30, (SIDE, SIDE))
    photograph = cv2.GaussianBlur(noise, (0, 0), 3)[..., None] + np.zeros(3)
    dark = np.zeros((SIDE, SIDE, 1))
    dark[::8], dark[:, ::8] = -1, -1
    gridded = np.rint(photograph + amplitude * dark).astype(np.uint8)
    pattern = amplitude * 219 / 255 * np.sqrt(15 / 64 * 49 / 64)  # 15 of a cell's 64 pixels are darker
    assert grid_strength(gridded) == pytest.approx(pattern, rel=0.15)
    assert grid_strength(np.rint(photograph).astype(np.uint8)) < 0.1


def test_another_period_is_no_grid_of_eight():
    gridded = np.full((280, 280, 3), 128, np.uint8)
    gridded[::7] = 120
    assert grid_strength(gridded, 7) > 1
    assert grid_strength(gridded) < 0.2


def test_a_cast_is_the_largest_shift_of_a_channel():
    lr = np.full((8, 8, 3), 100, np.uint8)
    large = np.full((32, 32, 3), 100, np.uint8)
    large[..., 2] = 97
    assert colour_shift(large, lr) == 3
