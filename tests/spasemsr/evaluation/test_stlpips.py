"""ST-LPIPS: the numbers of its authors' code, and what is refused."""

import importlib.metadata

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from spasemsr.backends.networks import stlpips
from spasemsr.backends.networks.spec import STLPIPS
from spasemsr.errors import UserError
from spasemsr.evaluation.metrics import build_metric, build_metrics
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import read_state_dict


def without_package(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)


def weights() -> dict[str, torch.Tensor]:
    try:
        return read_state_dict(locate(STLPIPS).path)
    except UserError as error:
        pytest.skip(f"the extra `real` is not installed: {error.what}")


def photograph() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[100:196, 200:300])


@pytest.mark.parametrize(
    "name, changed, expected",
    [
        ("blurred", lambda image: cv2.GaussianBlur(image, (0, 0), 2), 0.4362275),
        ("shifted by a pixel", lambda image: np.roll(image, 1, 1), 0.0045299),
        ("inverted", lambda image: 255 - image, 0.4037184),
    ],
)
def test_the_numbers_are_those_of_the_package(name, changed, expected):
    """Computed by stlpips_pytorch 0.0.2 itself, in an environment of its own."""
    weights()
    hr = photograph()
    metric = build_metric("stlpips")
    assert metric.compute(changed(hr), hr) == pytest.approx(expected, abs=2e-5)
    assert metric.compute(hr, hr) == 0


def test_its_column_says_what_it_is():
    weights()
    told = build_metric("stlpips").describe()
    assert told["metric"] == "stlpips" and not told["higher_is_better"] and "not LPIPS" in told["recipe"]
    assert told["weights"].startswith("alex_shift_tolerant.pth sha256:b356b382f96010f7")


def test_two_images_scored_in_turn_do_not_mix():
    """The truth's features are kept from one method to the next, and only there."""
    weights()
    metric, hr = build_metric("stlpips"), photograph()
    blurred, other = cv2.GaussianBlur(hr, (0, 0), 2), np.ascontiguousarray(hr[::-1])
    first = metric.compute(blurred, hr)
    assert metric.compute(blurred, other) != first
    assert metric.compute(blurred, hr) == first


def test_sizes_it_is_not_defined_for_are_refused():
    weights()
    metric, hr = build_metric("stlpips"), photograph()
    with pytest.raises(UserError, match=r"stlpips: restored is 100x95, hr is 100x96"):
        metric.compute(hr[:-1], hr)
    with pytest.raises(UserError, match="at least 32 px"):
        metric.compute(hr[:31], hr[:31])


def test_another_file_is_refused_by_its_first_wrong_tensor():
    state = weights()
    with pytest.raises(UserError, match=r"here: net\.slice2\.4\.filt is not the constant"):
        stlpips._renamed(state | {"net.slice2.4.filt": torch.zeros(64, 1, 3, 3)}, "here")
    with pytest.raises(UserError, match=r"here: scaling_layer\.shift is not the constant"):
        stlpips._renamed({name: value for name, value in state.items() if "shift" not in name}, "here")


def test_without_its_package_the_column_is_left_out_and_said(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path))
    without_package(monkeypatch)
    assert [metric.name for metric in build_metrics(["psnr", "stlpips"])] == ["psnr"]
    assert "stlpips is left out of the metrics. stlpips-alex: the package stlpips-pytorch 0.0.2" in caplog.text
    with pytest.raises(UserError, match="is not installed"):
        build_metric("stlpips")
