"""The filter bank that stands for SAM's image encoder."""

import numpy as np
import pytest
from pydantic import ValidationError

from spasemsr.backends.extractors import build_extractor, filter_bank
from spasemsr.backends.extractors.filter_bank import responses
from spasemsr.backends.extractors.spec import FilterBankSpec
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR
from tests.worlds.photographs import FLAT, MEASURED, blurred, photograph


def bank(channels: int):
    return build_extractor(FilterBankSpec(kind="filter_bank", channels=channels))


def cells_of(name: str) -> np.ndarray:
    image = photograph(name)
    height, width = (min(side, 512) // 8 * 8 for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    crop = np.ascontiguousarray(image[top : top + height, left : left + width])
    return responses(crop).reshape(len(filter_bank._STATISTICS), -1)


def test_the_constants_are_the_photographs_statistics():
    cells = [cells_of(name) for name in MEASURED]
    mean = np.mean([values.mean(axis=1) for values in cells], axis=0)
    deviation = np.sqrt(np.mean([(values**2).mean(axis=1) for values in cells], axis=0) - mean**2)
    stored = np.array(filter_bank._STATISTICS)
    assert stored.shape == (32, 2)
    assert np.allclose(stored[:, 0], mean, atol=0.05 * deviation.max(), rtol=0.02)
    assert np.allclose(stored[:, 1], deviation, rtol=0.05)


@pytest.mark.parametrize("channels", [1, 16, 32])
def test_shape_dtype_and_scale(channels):
    extractor = bank(channels)
    (values,) = extractor.extract([photograph("astronaut", 256)])
    assert values.shape == extractor.shape_for(256, 256) == (channels, 32, 32)
    assert values.dtype == np.float16 and np.isfinite(values).all() and np.abs(values).max() <= 6
    assert 0.1 < values.astype(float).std() < 3
    FEATURES_SPASEMSR.member("sam.npy").encode(values)


def test_fewer_channels_are_the_first_of_more():
    image = photograph("coffee", 128)
    assert np.array_equal(bank(5).extract([image])[0], bank(32).extract([image])[0][:5])


def test_more_channels_than_there_are_is_refused():
    assert bank(len(filter_bank._STATISTICS))
    with pytest.raises(ValidationError, match="less than or equal to 32"):
        bank(33)


def test_orientation_channels_know_which_way_stripes_run():
    across = np.zeros((64, 64, 3), np.uint8)
    across[:, ::4] = across[:, 1::4] = 255  # vertical stripes, period 4
    channels = slice(6, 10)  # orientations at 4 px: 0, 45, 90, 135 degrees
    upright = bank(16).extract([across])[0][channels].astype(float).mean(axis=(1, 2))
    turned = bank(16).extract([np.ascontiguousarray(across.transpose(1, 0, 2))])[0][channels]
    assert upright.argmax() == 0 and turned.astype(float).mean(axis=(1, 2)).argmax() == 2


def test_blur_lowers_the_fine_energies_first():
    image = photograph("grass", 128)
    sharp, soft = (bank(16).extract([each])[0].astype(float).mean(axis=(1, 2)) for each in (image, blurred(image, 1.5)))
    drops = (sharp - soft)[3:6]  # gradient energy at three scales
    assert drops[0] > drops[1] > drops[2] > 0


def test_a_shift_by_cells_shifts_the_features():
    image = photograph("coffee", 256)
    whole, part = bank(16).extract([image, np.ascontiguousarray(image[64:192, 64:192])])
    inside = np.abs(whole[:14, 12:20, 12:20].astype(float) - part[:14, 4:12, 4:12].astype(float))
    assert inside.max() < 0.02  # the first 14 reach less than 32 px


@pytest.mark.parametrize("image", [*FLAT.values(), np.zeros((8, 8, 3), np.uint8), np.full((9, 23, 3), 77, np.uint8)])
def test_any_image_of_a_cell_has_finite_features(image):
    extractor = bank(32)
    values = extractor.extract([image])[0]
    assert values.shape == extractor.shape_for(*image.shape[:2]) and np.isfinite(values).all()


def test_an_image_without_a_cell_is_refused():
    with pytest.raises(ValueError, match="no cell"):
        bank(4).extract([np.zeros((7, 64, 3), np.uint8)])


def test_neighbours_in_a_batch_do_not_matter():
    images = [photograph("coffee", 64), photograph("camera", 128), FLAT["white"]]
    for image, values in zip(images, bank(32).extract(images), strict=True):
        assert np.array_equal(bank(32).extract([image])[0], values)
