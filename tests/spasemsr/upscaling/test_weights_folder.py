"""Weights of an upscaler: a folder, the Hub."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.commands.models import app as models
from spasemsr import Upscaler
from spasemsr.backends.extractors.texture_words import TEXTURES
from spasemsr.backends.grounding.spec import RECOGNISER, TexturesSpec
from spasemsr.errors import UserError
from spasemsr.images.picture import from_image as picture
from spasemsr.methods.carried import carry
from spasemsr.upscaling import hub
from spasemsr.upscaling.hub import save
from tests.worlds import ROOT
from tests.worlds.tiny_upscaler import SAMPLE, photograph, pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny"
    tiny.save_pretrained(path)
    return path


# Weights: a folder, the Hub.


def test_a_saved_folder_restores_the_same_pixels(tiny, folder):
    image = photograph(40, 32)
    loaded = Upscaler.from_pretrained(folder, workers=1)
    assert loaded.sampling == SAMPLE and len(loaded.weights_sha256) == 64
    large = tiny(image)
    assert large.size == (160, 128) and large.mode == "RGB"
    assert np.array_equal(pixels(large), pixels(loaded(image)))


def test_the_folder_has_the_layout_of_the_hub(tiny, folder, tmp_path):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "weights.safetensors"]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and "pipeline_tag: image-to-image" in card and "Upscaler.from_pretrained" in card
    assert json.loads((folder / "config.json").read_text())["inference"]["sample"]["steps"] == SAMPLE.steps
    tiny.save_pretrained(tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_release_takes_no_place_but_of_another_release(folder, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "README.md").write_text("of the project")
    for out, said in ((folder, "is the model itself"), (project, "holds something else than a released model")):
        before = {path: path.read_bytes() for path in out.iterdir()}
        refused = CliRunner().invoke(models, ["release", str(folder), str(out), "--bits", "8"])
        assert said in str(refused.exception)
        assert before == {path: path.read_bytes() for path in out.iterdir()}
    for _ in range(2):
        assert CliRunner().invoke(models, ["release", str(folder), str(tmp_path / "released")]).exit_code == 0


def test_a_folder_and_a_commit_that_are_none_are_said(tmp_path):
    run, app = CliRunner().invoke, models
    assert "there is no folder" in str(run(app, ["fetch", "sd-2.1", "--from", str(tmp_path / "absent")]).exception)
    for command in ("fetch", "verify", "path"):
        found = run(app, [command, "efficientnet-lite0", "--revision", "main"])
        assert found.exit_code == 2 and "40 hexadecimal" in " ".join(found.output.split())


def test_students_of_a_project_travel_with_the_weights(tiny, tmp_path, monkeypatch):
    """Released, moved and released again, from where no project is."""
    student = tmp_path / "project/data/students/mine/weights.safetensors"
    student.parent.mkdir(parents=True)
    student.write_bytes(RECOGNISER.read_bytes())
    monkeypatch.chdir(tmp_path / "project")
    textures = TexturesSpec(source="data/students/mine/weights.safetensors")
    inference = tiny.config.inference
    inference = inference.model_copy(update={"ground": inference.ground.model_copy(update={"textures": textures})})
    config = tiny.config.model_copy(update={"inference": inference})
    save(tmp_path / "once", tiny.method, config)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree("project")
    (tmp_path / "once").rename("moved")
    Upscaler.from_pretrained(Path("moved"), workers=1).save_pretrained("again")
    stored = [json.loads((Path(name) / "config.json").read_text()) for name in ("moved", "again")]
    places = [config["inference"]["ground"]["textures"]["source"] for config in stored]
    assert places == ["students/mine/weights.safetensors"] * 2
    assert (Path("again") / places[1]).read_bytes() == RECOGNISER.read_bytes()
    foreign = tmp_path / "students/ann/weights.safetensors"  # whose folder only happens to be called so
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"large")
    assert carry({"kind": "x", "source": str(foreign)}, tmp_path / "out") == {"kind": "x", "source": str(foreign)}
    assert not (tmp_path / "out").exists()
    upscaler = Upscaler.from_pretrained(Path("again"), workers=1)
    found = upscaler.conditions(picture(photograph(40, 32)))
    assert found.boxes and {box.tag for box in found.boxes} & TEXTURES


class FakeHub:
    def __init__(self, token=None):
        FakeHub.seen = {"token": token}

    def create_repo(self, name, private, exist_ok):
        FakeHub.seen |= {"private": private}
        return SimpleNamespace(repo_id=f"me/{name}")

    def upload_folder(self, repo_id, folder_path, commit_message):
        FakeHub.seen |= {"name": repo_id, "files": sorted(path.name for path in Path(folder_path).iterdir())}
        if "refused" in repo_id:
            raise OSError("no such account")
        return f"https://hub/{repo_id}/commit/1"


@pytest.mark.parametrize(("bits", "room"), [(16, 0.55), (8, 0.4)])
def test_fewer_bits_take_less_room_and_restore_the_same_to_a_grey_level(tiny, folder, tmp_path, bits, room):
    tiny.save_pretrained(tmp_path / "small", bits=bits)
    whole, small = (path / "weights.safetensors" for path in (folder, tmp_path / "small"))
    assert small.stat().st_size < room * whole.stat().st_size
    image = photograph(40, 32)
    restored = [pixels(Upscaler.from_pretrained(path.parent)(image)).astype(int) for path in (whole, small)]
    assert np.abs(restored[0] - restored[1]).mean() < 0.5


@pytest.mark.parametrize("bits", [16, 8])
def test_weights_beyond_half_precision_are_refused(tiny, tmp_path, bits):
    tensor = next(
        parameter
        for part in tiny._method.trainable().values()
        for parameter in part.parameters()
        if parameter.ndim == 1
    )
    kept = tensor.flatten()[0].item()
    tensor.data.flatten()[0] = 1e6
    try:
        with pytest.raises(UserError, match=r"beyond (float16|half)"):
            tiny.save_pretrained(tmp_path / "half", bits=bits)
    finally:
        tensor.data.flatten()[0] = kept
    assert not (tmp_path / "half" / "weights.safetensors").exists()


def test_push_uploads_the_folder_and_says_where(tiny, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    assert tiny.push_to_hub("nano", token="t").endswith("me/nano/commit/1")
    expected = ["README.md", "config.json", "weights.safetensors"]
    assert FakeHub.seen == {"token": "t", "private": True, "name": "me/nano", "files": expected}
    with pytest.raises(UserError, match="no such account"):
        tiny.push_to_hub("refused")


def test_a_hub_repository_needs_a_commit(monkeypatch, folder):
    with pytest.raises(UserError, match="commit"):
        Upscaler.from_pretrained("somebody/nano")
    with pytest.raises(UserError, match="commit"):
        Upscaler.from_pretrained("somebody/nano", revision="main")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, revision, allow_patterns: str(folder))
    assert Upscaler.from_pretrained("somebody/nano", revision="0" * 40).sampling == SAMPLE
    with pytest.raises(UserError, match="only a repository of the Hub has revisions"):
        Upscaler.from_pretrained(folder, revision="0" * 40)


@pytest.mark.parametrize("harm", ["no folder", "no config", "no json", "old config", "no weights", "cut weights"])
def test_unusable_weights_are_named(folder, tmp_path, harm):
    broken = tmp_path / "model"
    for path in folder.iterdir() if harm != "no folder" else []:
        broken.mkdir(exist_ok=True)
        (broken / path.name).write_bytes(path.read_bytes())
    match harm:
        case "no config" | "no weights":
            (broken / {"no config": "config.json", "no weights": "weights.safetensors"}[harm]).unlink()
        case "no json":
            (broken / "config.json").write_text("{")
        case "old config":
            config = json.loads((broken / "config.json").read_text())
            del config["inference"]
            (broken / "config.json").write_text(json.dumps(config))
        case "cut weights":
            (broken / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:-100])
    with pytest.raises(UserError) as raised:
        Upscaler.from_pretrained(broken)
    named = {"no folder": "model", "old config": "inference"}.get(harm, "config" if "config" in harm else ".")
    assert named in str(raised.value) and raised.value.remedy


def test_a_projects_model_samples_as_its_params_say(tmp_path, tiny):
    project = tmp_path / "models" / "spasemsr"
    hub.save(project, tiny._method, tiny.config)
    root = ROOT
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    from spasemsr.config import load_params

    assert Upscaler.from_pretrained(project).sampling == load_params(root / "params.yaml").embedded.evaluate.sample


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, spasemsr; print('torch' in sys.modules, 'Upscaler' in spasemsr.__all__)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "True"]
