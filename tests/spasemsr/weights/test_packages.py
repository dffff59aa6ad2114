"""Weights inside installed packages: found by name and version, never imported, refused when they are not the ones."""

import hashlib
import sys
from pathlib import Path

import pytest

from pipeline.tools import inventory
from spasemsr.errors import UserError
from spasemsr.weights import store
from spasemsr.weights.entry import Entry, PackageSource, WeightFile
from spasemsr.weights.fetch import fetch
from spasemsr.weights.packages import NotInstalled
from spasemsr.weights.registry import ENTRIES
from spasemsr.weights.store import locate, verify

WEIGHTS = b"tensors" * 1000
TOY = Entry(
    "toy",
    "a test",
    "none",
    len(WEIGHTS),
    (WeightFile("toy.pth", hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS)),),
    (PackageSource("toy-weights", "1.2.0", "toy_weights/models"),),
)


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path) -> Path:
    """A machine with a folder of installed packages of our own, and no other model."""
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(store, "LOCK", tmp_path / "models.lock.json")
    monkeypatch.setitem(ENTRIES, "toy", TOY)
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setattr(sys, "path", [str(packages), *sys.path])
    return packages


def install(packages: Path, version: str = "1.2.0", weights: bytes | None = WEIGHTS) -> Path:
    """What an installer leaves behind; importing the package would fail the test."""
    info, package = packages / f"toy_weights-{version}.dist-info", packages / "toy_weights"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-weights\nVersion: {version}\n")
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('the package was imported')\n")
    path = package / "models" / "toy.pth"
    if weights is not None:
        path.write_bytes(weights)
    return path


def test_a_file_of_an_installed_package_is_a_model(place):
    path = install(place)
    found = locate("toy")
    assert found.path == path and found.revision == ""
    assert verify(TOY, again=True) == found == fetch(TOY, offline=True)
    assert inventory.state(TOY) == "here"
    assert "toy_weights" not in sys.modules


def test_an_absent_package_is_named_with_the_command_that_brings_it():
    with pytest.raises(NotInstalled, match=r"toy: the package toy-weights 1\.2\.0 is not installed") as error:
        locate("toy")
    assert "make env" in error.value.remedy and "toy-weights==1.2.0" in error.value.remedy
    assert any("package toy-weights==1.2.0: the package toy-weights 1.2.0 is not" in line for line in inventory.lines())
    with pytest.raises(UserError, match=r"could not be fetched.*toy-weights 1\.2\.0 is not installed"):
        fetch(TOY)


def test_another_version_is_refused_by_name(place):
    install(place, version="1.3.0")
    with pytest.raises(UserError, match=r"toy: toy-weights is installed in version 1\.3\.0, not 1\.2\.0") as error:
        locate("toy")
    assert not isinstance(error.value, NotInstalled)


@pytest.mark.parametrize("weights", [b"T" + WEIGHTS[1:], WEIGHTS[:-1]], ids=["a flipped byte", "cut short"])
def test_a_damaged_file_is_refused_by_name(place, weights):
    path = install(place, weights=weights)
    with pytest.raises(UserError, match=r"toy\.pth has sha256 \w{16}, not") as error:
        locate("toy")
    assert str(path) in error.value.what and "install the package again" in error.value.remedy


def test_a_package_without_the_file_is_refused_by_name(place):
    install(place, weights=None)
    with pytest.raises(UserError, match=r"toy: toy-weights 1\.2\.0 lacks toy\.pth"):
        locate("toy")


def test_a_folder_of_the_users_comes_first(place):
    install(place, version="1.3.0")
    own = store.models_folder() / "toy" / "toy.pth"
    own.parent.mkdir(parents=True)
    own.write_bytes(WEIGHTS)
    assert locate("toy").path == own


def test_the_registrys_packages_are_the_extra_that_is_pinned():
    """What `make env` installs are the versions whose files the registry knows."""
    root = Path(__file__).parents[3]
    pinned, project = (root / "requirements.txt").read_text(), (root / "pyproject.toml").read_text()
    sources = [source for entry in ENTRIES.values() for source in entry.sources if entry is not TOY]
    packaged = [source for source in sources if isinstance(source, PackageSource)]
    assert packaged
    for source in packaged:
        assert f"\n{source.distribution}=={source.version} " in pinned
        assert f'"{source.distribution}=={source.version}' in project
    for never_run in ("jax", "jaxlib", "flax", "onnxruntime"):  # what their code would need
        assert f"\n{never_run}==" not in pinned
