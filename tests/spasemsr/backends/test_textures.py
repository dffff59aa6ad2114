"""Areas of like texture: how they divide a picture, what they are called, where they come from."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spasemsr.backends.extractors.texture import CLASSES, TextureClasses
from spasemsr.backends.extractors.texture_words import DOUBT, SMOOTH, SURE, TEXTURES, opposite
from spasemsr.backends.grounding import texture_areas
from spasemsr.backends.grounding.spec import TexturesSpec
from spasemsr.backends.grounding.texture_areas import TextureAreas, painted
from spasemsr.backends.grounding.textures import one_hot, texture_boxes, words
from spasemsr.backends.protocols import Box
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import AwareRestorerSpec
from spasemsr.data.pairs import make_pair
from tests.worlds.photographs import FILES, photograph

MEASURE = TextureAreas(TexturesSpec())


def grating(phase: np.ndarray) -> np.ndarray:
    return np.repeat((128 + 60 * np.sin(phase))[..., None], 3, axis=2).astype(np.uint8)


ROWS, COLUMNS = np.mgrid[:192, :192].astype(float)
LINES = {
    "upright": COLUMNS * 2 * np.pi / 8,
    "level": ROWS * 2 * np.pi / 8,
    "rising": (COLUMNS + ROWS) * 2 * np.pi / 11,
    "falling": (COLUMNS - ROWS) * 2 * np.pi / 11,
}


@pytest.mark.parametrize("direction", LINES)
def test_lines_are_called_by_the_way_they_run(direction):
    assert MEASURE.measured(grating(LINES[direction])) == [
        Box(f"strong {direction} texture", (0.0, 0.0, 1.0, 1.0), 1.0)
    ]


def test_two_textures_are_two_areas_that_meet_where_the_textures_do():
    picture = np.where((COLUMNS < 72)[..., None], np.uint8(128), grating(LINES["level"]))
    areas = {box.tag: box.xyxy for box in MEASURE.measured(picture) if box.score > 0.9}
    assert areas[SMOOTH][2] == pytest.approx(72 / 192, abs=2 / 24)
    assert areas["strong level texture"][2] == 1.0


@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(3, 20), st.integers(1, 12))
def test_areas_divide_the_picture(seed, height, width, most):
    labels = np.random.default_rng(seed).integers(CLASSES, size=(1, height, width))
    covered, boxes = np.zeros((height, width), int), texture_boxes(one_hot(labels), most)
    for box in boxes:
        x0, y0, x1, y1 = np.round(np.array(box.xyxy) * (width, height, width, height)).astype(int)
        assert min(x1 - x0, y1 - y0) >= 3
        covered[y0:y1, x0:x1] += 1
        assert box.tag in SURE
        assert 0 < box.score <= 1
    assert (covered == 1).all()
    assert len(boxes) <= most
    assert boxes == sorted(boxes, key=lambda box: -box.score)


def test_a_larger_picture_may_have_more_areas():
    small, large = photograph("coffee", 192), photograph("coffee", 384)
    assert len(MEASURE.measured(small)) <= 8 < len(MEASURE.measured(large)) <= 32


def test_what_is_worth_a_cut_does_not_depend_on_what_else_the_picture_shows():
    """Stripes in a corner of a smooth picture are an area of their own in a small one and in a large one."""
    for side in (192, 768):
        picture = np.full((side, side, 3), 128, np.uint8)
        picture[:96, :96] = grating(LINES["level"])[:96, :96]
        striped = [box.area for box in MEASURE.measured(picture) if box.tag == "strong level texture"]
        assert sum(striped) * side**2 == pytest.approx(96**2, rel=0.4)


def test_words_name_what_most_cells_are():
    shares = np.zeros(CLASSES)
    shares[[4, 8, 10]] = 0.2, 0.4, 0.4  # faint upright, marked upright and level
    assert words(shares) == ("marked upright texture", pytest.approx(0.8))
    shares[[4, 8, 9, 10, 11]] = 0.0, 0.25, 0.25, 0.25, 0.25
    assert words(shares) == ("marked texture", 1.0)


def test_other_classes_are_refused():
    with pytest.raises(ValueError, match="3 classes of texture, not 16"):
        texture_boxes(np.zeros((3, 8, 8)), 4)


@pytest.mark.parametrize("name", sorted(TEXTURES))
def test_the_opposite_is_another_texture(name):
    other, own = opposite(name), name.removeprefix(DOUBT)
    assert other in SURE - {own}
    assert (other == SMOOTH) == (own.split()[0] in ("marked", "strong"))


def test_a_guess_is_said_as_one_where_the_network_has_learned_to_doubt():
    """The areas are the same ones, and what is measured is sure in any case."""
    picture = photograph("coffee", 192)
    doubting, trusting = TextureAreas(TexturesSpec(doubted=True)), MEASURE
    guessed = trusting.recognised(picture)
    assert doubting.recognised(picture) == [replace(box, tag=f"perhaps {box.tag}") for box in guessed]
    assert {box.tag for box in doubting.recognised(picture)} <= TEXTURES - SURE
    assert doubting.measured(picture) == trusting.measured(picture)
    assert {box.tag for box in trusting.measured(picture)} <= SURE


def test_areas_are_painted_where_no_object_is():
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 1] = 1
    boxes = [Box("a", (0.0, 0.0, 0.5, 1.0), 1.0), Box("b", (0.5, 0.0, 1.0, 1.0), 1.0)]
    expected = np.repeat(np.array([[2, 2, 2, 3, 3, 3]], np.uint8), 4, axis=0)
    expected[1, 1] = 1
    assert np.array_equal(painted(mask, boxes, 2), expected)


@pytest.mark.parametrize("name", ["astronaut", "camera", "grass"])
def test_the_recogniser_sees_more_of_hr_than_what_is_shown(name):
    """The strength of every cell, guessed from a degraded and restored copy, and measured on that copy itself."""
    pair = make_pair(FILES[name], "stablesr", 256)
    shown = build_restorer(AwareRestorerSpec(kind="aware", sharpness=0.2)).restore([pair.lr], 4)[0]
    truth, measured = (TextureClasses().extract([picture])[0][0] // 4 for picture in (pair.hr, shown))
    guessed = MEASURE._recogniser.shares([shown])[0].reshape(4, 4, *truth.shape).sum(axis=1).argmax(axis=0)
    assert np.mean(guessed == truth) > np.mean(measured == truth) + 0.1


def test_a_large_picture_is_guessed_in_strips_as_at_once(monkeypatch):
    """512 rows at a time are more than the test would take; 64 show the same."""
    picture = photograph("coffee", 256)
    whole = MEASURE._recogniser.shares([picture])[0]
    monkeypatch.setattr(texture_areas, "STRIP", 64)
    assert np.allclose(MEASURE._guessed(picture), whole, atol=1e-5)
    assert MEASURE._guessed(picture[:201, :135]).shape == (CLASSES, 25, 16)
