"""The embedded degradation removal module."""

import numpy as np
import pytest
import torch
from photographs import FLAT, blurred, noisy, photograph, psnr, shrunk

from spasemsr.backend_specs import FilterRestorerSpec
from spasemsr.backends.restorer import build_restorer
from spasemsr.evaluation.metrics import niqe
from spasemsr.resize import bicubic_upsample

RESTORER = build_restorer(FilterRestorerSpec(kind="filter"))


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    tensor = torch.from_numpy(lr.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return (bicubic_upsample(tensor, scale)[0].permute(1, 2, 0) * 255).round().byte().numpy()


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "china"])
@pytest.mark.parametrize("sigma", [8, 16, 25])
def test_noisy_lr_is_restored_better_than_by_bicubic(name, sigma):
    hr = photograph(name, 256)
    lr = noisy(shrunk(hr, 4), sigma)
    assert psnr(RESTORER.restore([lr], 4)[0], hr) > psnr(bicubic(lr, 4), hr) + 0.5


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "china"])
def test_clean_lr_is_not_made_worse(name):
    hr = photograph(name, 256)
    lr = shrunk(hr, 4)
    restored, plain = RESTORER.restore([lr], 4)[0], bicubic(lr, 4)
    assert psnr(restored, hr) > psnr(plain, hr) - 0.6
    assert niqe(restored) < niqe(plain) + 0.5


def test_edges_survive():
    lr = np.full((32, 32, 3), 60, np.uint8)
    lr[:, 16:] = 190
    restored = RESTORER.restore([noisy(lr, 10)], 4)[0].astype(float)
    step = restored[32:96, 80:].mean() - restored[32:96, :48].mean()
    assert step == pytest.approx(130, abs=6)
    smooth = blurred(noisy(lr, 10), 1.5).repeat(4, axis=0).repeat(4, axis=1).astype(float)
    steepest = [np.abs(np.diff(image.mean(axis=(0, 2)))).max() for image in (restored, smooth)]
    assert steepest[0] > 0.9 * np.abs(np.diff(bicubic(lr, 4).astype(float).mean(axis=(0, 2)))).max()


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shape", [(20, 33, 3), (1, 1, 3), (5, 2, 3)])
def test_sizes(scale, shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    restored = RESTORER.restore([image], scale)[0]
    assert restored.shape == (shape[0] * scale, shape[1] * scale, 3) and restored.dtype == np.uint8


@pytest.mark.parametrize("name", FLAT)
def test_flat_images_stay_as_they_are(name):
    restored = RESTORER.restore([FLAT[name]], 4)[0]
    assert np.abs(restored.astype(int) - FLAT[name][0, 0].astype(int)).max() <= 1


def test_neighbours_in_a_batch_do_not_matter():
    images = [photograph("coffee", 32), photograph("camera", 48), FLAT["white"]]
    together = RESTORER.restore(images, 4)
    for image, restored in zip(images, together, strict=True):
        assert np.array_equal(RESTORER.restore([image], 4)[0], restored)
