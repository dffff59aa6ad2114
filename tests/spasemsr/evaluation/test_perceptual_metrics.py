"""Learned metrics: what is missing is named with its place, what is there is checked, and pyiqa computes it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg

from spasemsr.errors import UserError
from spasemsr.evaluation import fid, perceptual
from spasemsr.evaluation.metrics import build_metric
from tests.worlds import ROOT


@pytest.fixture(autouse=True)
def torch_home(monkeypatch, tmp_path) -> Path:
    """A machine without any weights."""
    import huggingface_hub.constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    perceptual.verify.cache_clear()
    yield tmp_path
    perceptual.verify.cache_clear()


@pytest.mark.parametrize("name", perceptual.METRICS)
def test_a_metric_without_weights_names_file_and_place(name, torch_home):
    with pytest.raises(UserError) as error:
        build_metric(name)
    file = perceptual.METRICS[name].files[0]
    assert f"{name} needs {file.name}" in error.value.what
    assert str(torch_home / "hub" / file.folder) in error.value.remedy
    assert f"leave {name} out of the metrics" in error.value.remedy


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


# pyiqa fixes its folder when it is imported, so whatever has weights in place runs in a process of its own: the first
# argument is the folder of weights, and a connection of any kind is an error.
ALONE = """
import dataclasses, socket, sys
from pathlib import Path

def refuse(*arguments, **more):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np, torch
from spasemsr.evaluation import fid, perceptual

def place(file, network):
    path = Path(sys.argv[1]) / "hub" / file.folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return dataclasses.replace(file, sha256="")  # random weights cannot have the digest of the name

torch.manual_seed(0)
"""


MUSIQ = """
from pyiqa.archs.musiq_arch import MUSIQ
from spasemsr.evaluation.metrics import build_metric

network, musiq = MUSIQ(pretrained=False).eval(), perceptual.METRICS["musiq"]
perceptual.METRICS["musiq"] = dataclasses.replace(musiq, files=(place(musiq.files[0], network),))
metric = build_metric("musiq")
assert not metric.needs_reference and metric.higher_is_better
assert "musiq_koniq_ckpt-e95806b9.pth sha256:" in metric.describe()["weights"]
image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
with torch.no_grad():
    expected = network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255).item()
    other = MUSIQ(pretrained=False).eval()(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255).item()
print("musiq", metric.compute(image, np.zeros_like(image)), expected, other)
"""

FID = """
from PIL import Image
from pyiqa.archs import fid_arch, inception

torch.nn.init.trunc_normal_ = lambda tensor, *rest, **more: tensor.normal_(0, 0.1)  # its own takes half a minute
load = inception.load_pretrained_network
inception.load_pretrained_network = lambda network, *rest: None
fid.FILE = place(fid.FILE, inception.fid_inception_v3())
inception.load_pretrained_network = load
fid.MIN_IMAGES = 3
random, folders = np.random.default_rng(0), [Path(sys.argv[1]) / name for name in ("hr", "near", "far")]
for folder, noise in zip(folders, (0, 8, 64)):
    folder.mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (8, 10, 3)).repeat(8, 0).repeat(8, 1)
        noisy = np.clip(picture + random.normal(0, 1, picture.shape) * noise, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number}.png")
hr, near, far = (sorted(folder.iterdir()) for folder in folders)
metric, distance = fid.Fid(3), fid.distance
fid.distance = lambda ours, theirs: distance(ours[:, :64], theirs[:, :64])  # that of all 2,048 takes seconds
ours = [metric.features(map(fid._resized, files)) for files in (hr, near, far)]
theirs = fid_arch.get_folder_features(str(folders[2]), metric._network, 0, 4, device="cpu", verbose=False)
apart = np.abs(ours[2] - theirs).max() / np.abs(theirs).max()
print("fid", metric(hr, hr), *(fid.distance(noisy, ours[0]) for noisy in ours[1:]), apart)
print("weights", metric.row(1.5, "m", "s", 3)["weights"])
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> dict[str, list[str]]:
    """What the scripts printed, by its first word: one process for both, since pyiqa takes seconds to import."""
    folder = tmp_path_factory.mktemp("weights")
    home = {"TORCH_HOME": str(folder), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE + MUSIQ + FID, str(folder)],
        env={**os.environ, **home},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {words[0]: words[1:] for words in map(str.split, done.stdout.splitlines()) if words}


def test_musiq_with_weights_in_place(printed):
    """A checkpoint written by the library's own class is what scores: other weights, another score."""
    score, expected, other = map(float, printed["musiq"])
    assert score == pytest.approx(expected, rel=1e-4) and score != pytest.approx(other, rel=1e-2)


def test_fid_with_weights_in_place(printed):
    """Features are those of pyiqa's own FID; equal sets are at no distance, noisier ones farther."""
    same, near, far, apart = map(float, printed["fid"])
    assert abs(same) < 1e-2 * near and near < far and apart < 1e-5
    assert " ".join(printed["weights"]).startswith("pt_inception-2015-12-05-6726825d.pth sha256:")


def test_frechet_distance_is_the_formula():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(0, 1, (200, 12)), random.normal(0.3, 2, (150, 12)) @ random.normal(0, 1, (12, 12))
    one, two = np.cov(ours, rowvar=False), np.cov(theirs, rowvar=False)
    offset = ours.mean(axis=0) - theirs.mean(axis=0)
    expected = offset @ offset + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert fid.distance(ours, theirs) == pytest.approx(expected, rel=1e-6)
    assert fid.distance(ours, ours) == pytest.approx(0, abs=1e-9)


def test_fid_without_weights_and_of_too_few_images(torch_home):
    with pytest.raises(UserError, match=r"fid needs pt_inception-2015-12-05-6726825d\.pth") as error:
        fid.Fid(3000)
    assert str(torch_home / "hub" / "pyiqa") in error.value.remedy
    with pytest.raises(UserError, match="100 images are too few"):
        fid.Fid(100)
