"""The embedded maps, rows and labels: shapes, types, and that each says what its docstring claims."""

import numpy as np
import pytest

from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors.spec import (
    VERSIONS,
    ColourLayoutSpec,
    FilterRowsSpec,
    PlainMapSpec,
    TextureClassesSpec,
)
from tests.worlds.photographs import blurred, photograph

KINDS = [
    FilterRowsSpec(kind="filter_rows", filters=30, grid=4),
    ColourLayoutSpec(kind="colour_layout", grid=4),
    PlainMapSpec(kind="edges"),
    PlainMapSpec(kind="sharpness"),
    TextureClassesSpec(kind="texture_classes"),
]


# Mean, deviation and the sum of the first four columns for a photograph: raise a kind's VERSIONS where these move.
GOLDEN = {
    "filter_rows": (0.13456, 1.0025, -2.42),
    "colour_layout": (0.20499, 0.23589, 8.8044),
    "edges": (0.18819, 0.1309, 6.307),
    "sharpness": (0.44608, 0.083966, 24.549),
    "texture_classes": (11.167, 4.4613, 348),
}


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_values_are_what_this_version_gives(spec):
    assert VERSIONS[spec.kind] == 1
    values = build_extractor(spec).extract([photograph("astronaut", 96)])[0].astype(float)
    found = (values.mean(), values.std(), values[:, :4].sum())
    assert found == pytest.approx(GOLDEN[spec.kind], rel=5e-3)


def stripes(vertical: bool, period: int = 8, side: int = 64) -> np.ndarray:
    image = np.full((side, side, 3), 60, np.uint8)
    lines = image.transpose(1, 0, 2) if vertical else image
    for start in range(period // 2):
        lines[start::period] = 190
    return image


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_shapes_are_what_the_spec_says_and_values_are_finite(spec):
    images = [photograph("astronaut", 128), photograph("coffee", 96)]
    for image, values in zip(images, build_extractor(spec).extract(images), strict=True):
        assert values.shape == spec.shape(len(image))
        assert values.dtype == (np.uint8 if spec.kind == "texture_classes" else np.float16)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_the_same_image_gives_the_same_bytes_alone_or_in_a_batch(spec):
    one, two = photograph("astronaut", 64), photograph("coffee", 64)
    extractor = build_extractor(spec)
    assert extractor.extract([one, two])[0].tobytes() == extractor.extract([one])[0].tobytes()


@pytest.mark.parametrize("kind", ["edges", "sharpness"])
def test_an_image_below_a_cell_is_refused(kind):
    with pytest.raises(ValueError, match="no cell"):
        build_extractor(PlainMapSpec(kind=kind)).extract([np.zeros((7, 40, 3), np.uint8)])


def test_labels_tell_direction_and_strength():
    extractor = build_extractor(TextureClassesSpec(kind="texture_classes"))
    upright, lying, flat = (
        np.median(extractor.extract([image])[0])
        for image in (stripes(True), stripes(False), np.full((64, 64, 3), 90, np.uint8))
    )
    assert upright % 4 != lying % 4
    assert upright // 4 == lying // 4 == 3  # the strongest of four levels
    assert flat // 4 == 0


def test_labels_differ_between_regions_of_a_photograph():
    (labels,) = build_extractor(TextureClassesSpec(kind="texture_classes")).extract([photograph("astronaut", 256)])
    counts = np.bincount(labels.ravel(), minlength=16)
    assert (counts > 0).sum() >= 8
    assert counts.max() < 0.5 * labels.size


def test_edges_are_where_the_picture_changes():
    image = np.full((64, 64, 3), 40, np.uint8)
    image[:, 36:] = 200
    (edges,) = build_extractor(PlainMapSpec(kind="edges")).extract([image])
    assert edges[0, :, 4].min() > 0.1
    assert edges[0][:, [0, 1, 2, 6, 7]].max() == 0


def test_sharpness_falls_with_blur_and_not_with_brightness():
    image = photograph("coffee", 128)
    extractor = build_extractor(PlainMapSpec(kind="sharpness"))
    sharp, soft, dim = (
        extractor.extract([picture])[0].astype(float).mean() for picture in (image, blurred(image, 3.0), image // 2)
    )
    assert soft < 0.7 * sharp
    assert abs(dim - sharp) < 0.1 * sharp


def test_rows_say_what_is_where():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, 32:] = (200, 0, 0)  # the upper right quarter is red
    (rows,) = build_extractor(ColourLayoutSpec(kind="colour_layout", grid=2)).extract([image])
    red = rows[:, 1].astype(float)  # R - G
    assert red[2] > 0.7 and red[[1, 3, 4]].max() == 0
    assert red[0] == pytest.approx(red[2] / 4, abs=1e-3)
    assert rows[2, -2:].tolist() == [0.25, 0.75]  # row and column of its centre
    assert rows[0, 4] > 0.2 and rows[2, 4] < 0.02  # the whole varies, a flat quarter does not
