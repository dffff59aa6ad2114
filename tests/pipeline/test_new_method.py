"""A method is a folder and a section of params.yaml: with no other change the real stages run it."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open

from tests.worlds import ROOT
from tests.worlds.project import Project, finished_project

TOY = {"model": {"input": "lr", "width": 4}, "features": {"cells": 4}, "train": {"steps": 6, "lr": 0.01}}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project in which the toy has run beside nothing but the baselines, in the place of SpaSemSR."""
    made = finished_project(tmp_path_factory.mktemp("new_method") / "project")
    shutil.copytree(
        ROOT / "tests/worlds/toy_method",
        made.folder / "spasemsr/methods/toy",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    made.change({"methods": ["toy"], "embedded.methods.toy": TOY, "embedded.dial.sweeps": ["consistency"]})
    made.repro()
    return made


def test_it_is_trained_scored_swept_and_reported(project):
    with safe_open(project.folder / "models/toy/weights.safetensors", "pt") as weights:
        assert set(weights.keys()) == {f"layers.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")}
    config = project.json("models/toy/config.json")
    assert set(config["columns"]) == {"lr", "hr", "features/toy"} and config["method"] == "toy"
    losses = (project.folder / "reports/train/toy/losses.csv").read_text().splitlines()
    assert losses[0].startswith("step,") and "pixels" in losses[0] and losses[-1].startswith("6,")
    scores = project.json("reports/evaluate/toy/metrics.json")["val"]
    assert set(scores) == {"toy", "bicubic", "restorer", "hr"} and scores["toy"]["psnr"] > 10
    assert (project.folder / "reports/dial/toy.csv").is_file()
    assert "Toy convolutions" in (project.folder / "reports/report.html").read_text()


def test_restored_images_of_training_are_made_for_methods_that_read_them_alone(project):
    names = {path.name.partition("-")[0] for path in (project.folder / "data/shards/restored").glob("*.tar")}
    assert names == {"val"}


def test_it_upscales_and_is_planned(project):
    picture = project.folder / "picture.png"
    Image.effect_noise((40, 30), 60).convert("RGB").save(picture)
    project.run("python", "-m", "pipeline", "upscale", "picture.png", "-o", "large", "--method", "toy")
    (result,) = Path(project.folder / "large").glob("*.png")
    with Image.open(result) as large:
        assert large.size == (160, 120)
    planned = project.run("python", "-m", "pipeline", "plan").stdout
    assert "train toy" in planned and "features/toy" in planned and "train spasemsr" not in planned
    refused = project.run(
        "python", "-m", "pipeline", "upscale", "picture.png", "-o", "x", "--method", "esr", check=False
    )
    assert refused.returncode == 2 and "Choose from: megasr, seesr, segsr, spasemsr, toy" in refused.stderr
