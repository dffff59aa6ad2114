"""The presets `camera`, `mild` and `mixture`: aligned, within the ranges they state, a function of their arguments."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from spasemsr.data import camera
from spasemsr.data.degradation import degrade, draw, replay
from spasemsr.data.spec import DegradationRanges, DegradationSpec, MixtureShares
from tests.worlds.photographs import FLAT, photograph, psnr, shrunk

PRESETS = ("camera", "mild")
SHARP = {"shape": "gaussian", "sigma": 1.5, "ratio": 1.0, "rotation": 0.0, "beta": 1.0, "travel": 0.0, "shift": [0, 0]}


def spec(preset: str) -> DegradationSpec:
    return DegradationSpec(preset=preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_trace_replays_to_the_same_pixels_after_json(preset):
    hr = photograph("chelsea", 128)
    for seed in range(8):
        degraded = degrade(hr, spec(preset), 4, seed)
        assert degraded.lr.shape == (32, 32, 3) and degraded.lr.dtype == np.uint8
        assert degraded.trace["preset"] == preset
        assert np.array_equal(replay(hr, json.loads(json.dumps(degraded.trace))), degraded.lr)


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_stay_in_their_ranges_and_every_branch_is_drawn(preset):
    traces = [draw(spec(preset), 4, seed) for seed in range(400)]
    kernels = [trace["kernel"] for trace in traces]
    assert {kernel["shape"] for kernel in kernels} == set(camera.SHAPES)
    assert all(camera.SIGMA[0] <= kernel["sigma"] <= camera.SIGMA[1] for kernel in kernels)
    assert 0.3 < np.mean([kernel["ratio"] == 1 for kernel in kernels]) < 0.6
    qualities = [trace["jpeg"]["quality"] for trace in traces if trace["jpeg"]]
    low, high = camera.DEVELOPMENTS[preset].jpeg
    assert (min(qualities), max(qualities)) == (low, high)
    if preset == "mild":
        assert len(qualities) == 400 and max(trace["noise"] for trace in traces) <= 8
        return
    assert 0.6 < len(qualities) / 400 < 0.8
    assert {trace["raw"]["mosaic"] for trace in traces} == {True, False}
    shots = np.log([trace["raw"]["shot"] for trace in traces])
    assert np.log(camera.SHOT[0]) <= shots.min() and shots.max() <= np.log(camera.SHOT[1])


@pytest.mark.parametrize("shape", camera.SHAPES)
def test_a_kernel_has_sum_one_and_its_centre_where_lr_looks(shape):
    for shift in ([0.0, 0.0], [0.4, -0.3]):
        drawn = SHARP | {"shape": shape, "shift": shift, "beta": 2.0 if shape == "plateau" else 1.0, "ratio": 0.7}
        kernel = camera.kernel_of(drawn | {"travel": 4.0 if shape == "motion" else 0.0}, 4)
        reach = kernel.shape[0] // 2
        places = np.arange(-reach, reach + 1)
        assert kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
        assert (kernel.sum(axis=1) * places).sum() == pytest.approx(1.5 + shift[0], abs=0.1)
        assert (kernel.sum(axis=0) * places).sum() == pytest.approx(1.5 + shift[1], abs=0.1)


def test_lr_is_aligned_with_hr():
    """Without noise, and with a blur of about a pixel of lr, lr is nearest to the area mean where it is not moved."""
    hr = photograph("astronaut", 256)
    trace = {"preset": "mild", "seed": 0, "scale": 4, "kernel": SHARP, "noise": 0.0, "jpeg": None}
    lr, plain = camera.replay(hr, trace), shrunk(hr, 4)
    here = psnr(lr[2:-2, 2:-2], plain[2:-2, 2:-2])
    assert here > 27
    for y, x in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        assert psnr(lr[2:-2, 2:-2], np.roll(plain, (y, x), (0, 1))[2:-2, 2:-2]) < here - 4


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_scene_keeps_its_colour(name):
    hr = np.broadcast_to(FLAT[name][0, 0], (96, 96, 3)).copy()
    for seed in range(6):
        lr = degrade(hr, spec("camera"), 4, seed).lr.astype(float)
        assert np.abs(lr.mean((0, 1)) - hr[0, 0]).max() < 6


def test_a_mosaic_leaves_a_smooth_scene_as_it_is_and_colours_edges():
    ramp = np.repeat(np.linspace(0.2, 0.6, 32, dtype=np.float32)[None, :, None], 32, 0).repeat(3, 2)
    assert np.abs(camera._demosaic(ramp) - ramp)[2:-2, 2:-2].max() < 1e-5
    step = np.where(np.arange(32) < 16, 0.1, 0.8).astype(np.float32)[None, :, None].repeat(32, 0).repeat(3, 2)
    assert np.ptp(camera._demosaic(step), axis=2).max() > 0.1


def test_the_tone_curve_has_an_inverse():
    values = np.linspace(0, 1, 256, dtype=np.float32)
    assert np.abs(camera.picture_of(camera.light_of(values)) - values).max() < 1e-5
    assert (camera.light_of(values[[0, 255]]) == pytest.approx([0, 1], abs=1e-6)) and camera.light_of(values[127]) < 0.3


def test_noise_grows_with_the_light():
    raw = {"shot": 1e-3, "read": 1e-6, "gains": [2.0, 1.0, 1.7], "mosaic": False}
    deviations = [
        camera._expose(np.full((64, 64, 3), level, np.float32), raw, np.random.default_rng(0)).std(axis=(0, 1))
        for level in (0.05, 0.2)
    ]
    assert deviations[1] == pytest.approx(deviations[0] * 2, rel=0.1)  # sigma^2 is proportional to the light
    assert deviations[0] == pytest.approx(np.sqrt(np.array(raw["gains"]) * 1e-3 * 0.05), rel=0.1)


def test_camera_is_the_nearest_to_hr_on_average():
    hr, apart = photograph("coffee", 256), {}
    for preset in ("camera", "stablesr", "seesr"):
        lrs = [degrade(hr, spec(preset), 4, seed).lr for seed in range(8)]
        apart[preset] = np.mean([psnr(lr, shrunk(hr, 4)) for lr in lrs])
    assert apart["camera"] > apart["stablesr"] > apart["seesr"]


def test_a_mixture_gives_each_sample_a_preset_by_its_share_and_records_it():
    mixture = DegradationSpec(preset="mixture", mixture=MixtureShares(camera=0.5, mild=0.0, stablesr=0.2, seesr=0.3))
    presets = [draw(mixture, 4, seed)["preset"] for seed in range(400)]
    shares = {preset: presets.count(preset) / 400 for preset in ("camera", "mild", "stablesr", "seesr")}
    assert shares["mild"] == 0
    assert all(abs(shares[preset] - share) < 0.08 for preset, share in mixture.mixture.plain().items())
    hr = photograph("coffee", 128)
    for seed in range(4):  # a sample is what its preset alone would have made of the same seed
        assert np.array_equal(degrade(hr, mixture, 4, seed).lr, degrade(hr, spec(presets[seed]), 4, seed).lr)


def test_shares_that_are_not_read_change_no_identity():
    other = MixtureShares(camera=1.0, mild=0.0, stablesr=0.0, seesr=0.0)
    assert DegradationSpec(mixture=other).content() == DegradationSpec().content()
    assert "mixture" not in DegradationSpec().content()
    assert DegradationSpec(preset="mixture", mixture=other).content() != DegradationSpec(preset="mixture").content()


def test_ranges_of_the_chain_are_refused_where_there_is_no_chain():
    with pytest.raises(ValidationError, match="override changes ranges of seesr and stablesr"):
        DegradationSpec(preset="camera", override=DegradationRanges(noise_range=(1.0, 2.0)))


def test_usm_sharpens_before_the_optics():
    hr = photograph("astronaut", 128)
    plain, sharp = (degrade(hr, DegradationSpec(preset="camera", usm_target=usm), 4, 1) for usm in (False, True))
    assert not np.array_equal(plain.lr, sharp.lr) and (plain.trace["usm"], sharp.trace["usm"]) == (False, True)
