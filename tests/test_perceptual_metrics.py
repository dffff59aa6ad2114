"""Learned metrics: what is missing is named with its place, what is there is checked, and pyiqa computes it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spasemsr.errors import UserError
from spasemsr.evaluation import perceptual
from spasemsr.evaluation.metrics import build_metric


@pytest.fixture(autouse=True)
def torch_home(monkeypatch, tmp_path) -> Path:
    """A machine without any weights."""
    import huggingface_hub.constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    perceptual._verify.cache_clear()
    yield tmp_path
    perceptual._verify.cache_clear()


@pytest.mark.parametrize("name", perceptual.METRICS)
def test_a_metric_without_weights_names_file_and_place(name, torch_home):
    with pytest.raises(UserError) as error:
        build_metric(name)
    file = perceptual.METRICS[name].files[0]
    assert f"{name} needs {file.name}" in error.value.what
    assert str(torch_home / "hub" / file.folder) in error.value.remedy
    assert "leave" in error.value.remedy and "evaluate.metrics" in error.value.remedy


def place(torch_home: Path, name: str, data: object) -> Path:
    file = perceptual.METRICS[name].files[0]
    path = torch_home / "hub" / file.folder / file.name
    path.parent.mkdir(parents=True)
    torch.save(data, path)
    return path


def test_a_file_that_is_not_what_its_name_says_is_refused(torch_home):
    place(torch_home, "musiq", {"a": torch.zeros(1)})
    with pytest.raises(UserError, match=r"musiq_koniq_ckpt-e95806b9\.pth has sha256 \w{16}, not e95806b9eae5f381"):
        build_metric("musiq")


def any_digest(monkeypatch, name: str) -> None:
    metric = perceptual.METRICS[name]
    files = tuple(replace(file, sha256="") for file in metric.files)
    monkeypatch.setitem(perceptual.METRICS, name, replace(metric, files=files))


def test_a_pickled_network_is_not_handed_to_pyiqa(torch_home, monkeypatch):
    any_digest(monkeypatch, "musiq")
    place(torch_home, "musiq", torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match="holds a pickled"):
        build_metric("musiq")
