"""PSNR and SSIM on Y as the papers compute them, NIQE as basicsr does, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.errors import UserError
from spasemsr.evaluation import metrics
from spasemsr.evaluation.metrics import MetricUndefined, build_metric, niqe, psnr_y, ssim_y
from spasemsr.scenes.scene import make_scene
from spasemsr.scenes.spec import ScenesSpec
from tests.worlds.sample_report import photograph


def degraded(hr: np.ndarray) -> np.ndarray:
    """4x4 block means plus a fixed pattern, in integers: the same on every machine and with every library."""
    height, width = (side - side % 4 for side in hr.shape[:2])
    sums = hr[:height, :width].astype(np.int64).reshape(height // 4, 4, width // 4, 4, 3).sum(axis=(1, 3))
    blocks = np.repeat(np.repeat((sums + 8) // 16, 4, axis=0), 4, axis=1)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return np.clip(blocks + (7 * y + 13 * x + 5 * c + x * y) % 17 - 8, 0, 255).astype(np.uint8)


# Computed with the recipe of this project on photographs that ship inside scikit-image (float64, x86-64).
GOLDEN = {
    "astronaut.png": (24.8198573, 0.7376421, 12.5732762),
    "chelsea.png": (29.5532811, 0.7201767, 10.6774227),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name):
    hr = photograph(name, side=448)
    hr = np.ascontiguousarray(hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4])
    restored = degraded(hr)
    assert (psnr_y(restored, hr), ssim_y(restored, hr), niqe(restored)) == pytest.approx(GOLDEN[name], abs=1e-6)


def plain_y(image):
    r, g, b = (image[..., c].astype(np.float64) / 255 for c in range(3))
    return (65.481 * r + 128.553 * g + 24.966 * b + 16) / 255


def plain_ssim(restored, hr):
    """The formula of Wang et al., window by window."""
    axis = np.arange(11) - 5.0
    kernel = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    x, y = (np.round(plain_y(image) * 255) for image in (restored, hr))
    x, y = (np.lib.stride_tricks.sliding_window_view(image, (11, 11)) for image in (x, y))

    def weigh(values):
        return (values * kernel).sum(axis=(-1, -2))

    mx, my = weigh(x), weigh(y)
    vx, vy, cov = weigh(x * x) - mx**2, weigh(y * y) - my**2, weigh(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = np.maximum((2 * cov + c2) / (vx + vy + c2), 0)
    return float(np.mean((2 * mx * my + c1) / (mx**2 + my**2 + c1) * structure))


def test_equal_to_the_plain_formulas():
    hr = photograph("astronaut.png", 0, 100, 96)
    noise = np.random.default_rng(0).integers(0, 256, hr.shape, dtype=np.uint8)
    for restored in (degraded(hr), noise, 255 - hr):  # the last two need the clamp
        mse = np.mean((plain_y(restored) - plain_y(hr)) ** 2)
        assert psnr_y(restored, hr) == pytest.approx(10 * np.log10(1 / (mse + 1e-8)), abs=1e-9)
        assert ssim_y(restored, hr) == pytest.approx(plain_ssim(restored, hr), abs=1e-9)


@pytest.mark.parametrize("name", GOLDEN)
def test_pyiqa_agrees_when_told_the_colour_space(name):
    import pyiqa
    import torch

    hr = photograph(name, side=256)
    restored = degraded(hr)
    pair = [torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255 for image in (restored, hr)]
    for metric, ours in (("psnr", psnr_y), ("ssim", ssim_y)):
        theirs = pyiqa.create_metric(metric, test_y_channel=True, color_space="ycbcr", device="cpu")
        assert ours(restored, hr) == pytest.approx(float(theirs(*pair)), abs=1e-4)
        misread = pyiqa.create_metric(metric, test_y_channel=True, device="cpu")  # YIQ: another number
        assert abs(ours(restored, hr) - float(misread(*pair))) > 1e-3


@pytest.fixture(scope="module")
def basicsr_niqe():
    from spasemsr.data.degradation import _basicsr

    _basicsr()  # imports basicsr, which current torchvision would not let us do ourselves
    import basicsr.metrics.niqe as module

    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "rocket.jpg"])
def test_niqe_is_basicsrs(name, basicsr_niqe, monkeypatch):
    """Within 1e-3 of its value, and to the last digits once luma and the halving are not done in float32 by it."""
    hr = photograph(name, side=400)
    for image in (hr, degraded(hr)):
        theirs = basicsr_niqe.calculate_niqe(np.ascontiguousarray(image[..., ::-1]), crop_border=0)
        assert niqe(image) == pytest.approx(theirs, abs=1e-3)
        on_our_luma = basicsr_niqe.calculate_niqe(metrics._levels(image), crop_border=0, input_order="HW")
        with monkeypatch.context() as patch:
            patch.setattr(metrics, "_halve", lambda y: basicsr_niqe.imresize(y.astype("f4") / 255.0, 0.5) * 255.0)
            assert niqe(image) == pytest.approx(on_our_luma, abs=1e-6)


def test_half_size_is_basicsrs(basicsr_niqe):
    levels = np.random.default_rng(0).integers(16, 236, (96, 192)).astype(np.float64)
    halved = metrics._halve(levels)
    assert halved == pytest.approx(basicsr_niqe.imresize(levels, 0.5), abs=1e-3)
    assert np.array_equal(halved * 2**16, np.rint(halved * 2**16))  # exact: nothing was rounded


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(11, 40), st.integers(11, 40))
def test_properties_of_psnr_and_ssim(seed, height, width):
    random = np.random.default_rng(seed)
    hr, restored = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    assert psnr_y(hr, hr) == pytest.approx(80.0)
    assert ssim_y(hr, hr) == pytest.approx(1.0)
    assert psnr_y(restored, hr) == psnr_y(hr, restored) < 80
    assert ssim_y(restored, hr) == pytest.approx(ssim_y(hr, restored))
    assert 0 <= ssim_y(restored, hr) < 1
    further = np.clip(restored.astype(int) + np.sign(restored.astype(int) - hr), 0, 255).astype(np.uint8)
    assert psnr_y(further, hr) <= psnr_y(restored, hr)


def test_niqe_prefers_the_photograph():
    hr = photograph("chelsea.png", side=300)
    assert niqe(hr) < niqe(degraded(hr))


HR = np.zeros((32, 40, 3), np.uint8)
REFUSED = {
    "32x40 but hr is 40x32": np.zeros((40, 32, 3), np.uint8),
    "floats with NaN": np.full(HR.shape, np.nan),
    "holds floats": np.zeros(HR.shape, np.float32),
    "uint16, 16 bits": np.zeros(HR.shape, np.uint16),
    "has alpha": np.zeros((32, 40, 4), np.uint8),
    "has shape (32, 40)": np.zeros((32, 40), np.uint8),
}


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
def test_refuses_what_it_is_not_defined_on(message, metric):
    with pytest.raises(UserError) as error:
        metric(REFUSED[message], HR)
    assert message in error.value.what and error.value.remedy


def test_refuses_images_too_small_for_the_metric():
    with pytest.raises(UserError, match="10x11 is too small: it must hold a square of 11 px"):
        ssim_y(HR[:11, :10], HR[:11, :10])
    with pytest.raises(UserError, match="191x95 is too small: it must hold 2 squares of 96 px"):
        niqe(np.zeros((95, 191, 3), np.uint8))
    with pytest.raises(UserError, match="191x96 is too small"):
        niqe(np.zeros((96, 191, 3), np.uint8))


def test_niqe_of_a_constant_image_is_undefined_and_says_so():
    image = np.full((192, 192, 3), 128, np.uint8)
    with pytest.raises(MetricUndefined, match="0 of 4 blocks"):
        niqe(image)
    image[:, :96] = photograph("chelsea.png", side=192)[:, :96]
    assert np.isfinite(niqe(image))  # half of it flat is a value


def test_altered_or_missing_constants_are_named(monkeypatch):
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    metrics._pristine.cache_clear()
    with pytest.raises(UserError, match="not installed"):
        niqe(photograph("chelsea.png"))
    monkeypatch.undo()
    monkeypatch.setattr(metrics, "_NIQE_SHA256", "0" * 64)
    with pytest.raises(UserError, match="is not the file"):
        niqe(photograph("chelsea.png"))
    monkeypatch.undo()
    assert np.isfinite(niqe(photograph("chelsea.png")))


def test_texture_error_is_of_how_much_and_not_of_which():
    scene = make_scene(ScenesSpec(count=4), 1)
    hr, metric = scene.picture(), build_metric("texture")
    turned = scene.flat()
    shifted = np.roll(hr, 4, axis=1)
    assert metric.compute(hr, hr) == 0
    assert metric.compute(turned, hr) > 5 * metric.compute(np.clip(hr.astype(int) + 3, 0, 255).astype(np.uint8), hr)
    assert psnr_y(shifted, hr) < psnr_y(turned, hr) and metric.compute(shifted, hr) < metric.compute(turned, hr)
    with pytest.raises(UserError, match="must hold a square of 8 px"):
        metric.compute(hr[:4], hr[:4])


def test_every_metric_says_how_it_is_computed():
    wanted = {"metric", "implementation", "version", "weights", "colour_space", "crop", "protocol"}
    for name in ("psnr", "ssim", "niqe", "texture"):
        described = build_metric(name).describe()
        assert wanted <= described.keys() and all(described[part] not in (None, "") for part in wanted)
    with pytest.raises(UserError, match="lpips-vgg"):
        build_metric("lpips-vgg")
