"""All four methods with `profile: foundation`, on tiny checkpoints in the layouts of the real models, and DAPE before.

The stages run in this process, one after the other. What `dvc` adds is shown by test_pipeline.py, and by the slow test
here, in which it runs all 25 stages of the same project: `pytest -m slow tests/pipeline/test_four_methods.py`.
"""

import csv
import re
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.commands.stages import LEARNER_STAGES, METHOD_STAGES, PLAIN_STAGES
from pipeline.engine.executors import Serial
from pipeline.tools.upscale import load
from spasemsr.config import load_params
from spasemsr.images.picture import read_picture
from spasemsr.upscaling.settings import Settings
from tests.worlds.project import Project
from tests.worlds.tiny_checkpoints import UNET, foundation_params, write_all
from tests.worlds.tiny_vision import vision_features, write_vision

pytestmark = pytest.mark.timeout(1800)
SIBLINGS = ("seesr", "segsr", "megasr")
METHODS = ("spasemsr", *SIBLINGS)
BEFORE = [["ingest"], ["synthesize"], ["restore"], ["ground"], ["caption"], ["latents"], ["teach", "dape"]]
BEFORE += [["adapt", "dape"]]
AFTER = [["dial", "spasemsr"], ["audit", "spasemsr"], ["report"]]
ALONE = {**LEARNER_STAGES, **METHOD_STAGES, **PLAIN_STAGES}  # stages that no workers share


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Project:
    """A project in which DAPE, then all four were trained for a few steps; SpaSemSR was swept and audited too."""
    folder = tmp_path_factory.mktemp("four")
    write_all(folder / "checkpoints")
    write_vision(folder / "checkpoints")
    project = Project(folder / "project", _changes(folder / "checkpoints"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        for name in ("SPASEMSR_CACHE", "HF_HUB_OFFLINE"):
            patch.setenv(name, project.environment[name])
        params = load_params()
        for stage, *item in [*BEFORE, *([s, m] for s in ("features", "train", "evaluate") for m in METHODS), *AFTER]:
            workers = [] if stage in ALONE else [Serial()]
            import_module(f"pipeline.stages.{stage}").run(params, *workers, *item)
    return project


def _changes(checkpoints: Path) -> dict[str, object]:
    """What params.yaml says otherwise: sources and sizes."""
    features_of = vision_features(checkpoints)
    changes = {"profile": "foundation", "methods": list(METHODS), **foundation_params(checkpoints)}
    changes |= {"learners": ["dape"], "foundation.learners.dape.teacher": features_of["seesr"]["soft"]}
    changes["foundation.learners.dape.train"] = {"steps": 2}
    changes["foundation.audit"] = {"images": 2}
    changes |= {"foundation.evaluate.precision": "fp32", "foundation.evaluate.batch_size": 2}  # a CPU has no bf16
    changes |= {"foundation.train.steps": 2}
    for name, features in features_of.items():
        section = f"foundation.methods.{name}"
        changes |= {f"{section}.model.unet": UNET, f"{section}.features": features, f"{section}.train": {}}
        changes[f"{section}.model.base.source"] = str(checkpoints / "sd")
    changes |= {f"foundation.methods.{name}.model.hint_channels": [4, 8, 8, 8] for name in ("seesr", "megasr")}
    changes["foundation.methods.segsr.model.segments"] = {"width": 16, "embedding": 4, "stem": 8}
    return changes


def test_every_method_has_scores_of_the_same_images_beside_the_baselines(bench):
    images = {}
    for name in METHODS:
        scores = bench.json(f"reports/evaluate/{name}/metrics.json")["val"]
        assert set(scores) == {name, "bicubic", "restorer", "hr"}
        assert ("semantics_error" in scores[name]) == ("structure_error" in scores[name]) == (name == "spasemsr")
        assert all(8 < scores[method]["psnr"] < 60 for method in (name, "bicubic", "restorer"))
        rows = csv.DictReader((bench.folder / f"reports/evaluate/{name}/per_image.csv").open())
        images[name] = {row["key"] for row in rows if row["method"] == name}
    assert images["spasemsr"] and all(keys == images["spasemsr"] for keys in images.values())


def test_the_report_has_a_row_for_each(bench):
    page = (bench.folder / "reports/report.html").read_text()
    assert all(label in page for label in ("SpaSemSR", "SeeSR", "SegSR", "MegaSR"))
    compared = {item["method"] for item in bench.json("reports/summary.json")["differences"]}
    assert set(METHODS) <= compared


def test_what_was_frozen_is_named_by_its_files(bench):
    for name in METHODS:
        model = bench.json(f"models/{name}/config.json")
        assert model["identities"]["text_encoder"]["kind"] == "clip"
        assert len(model["identities"]["autoencoder"]["weights_sha256"]) == 64
    images = bench.json("reports/ground.json")["images"]
    assert images == sum(bench.json("reports/ingest.json")["patches"].values())


def test_the_student_makes_what_its_teacher_would_have_made(bench):
    for name in ("seesr", "megasr"):
        soft = bench.json(f"models/{name}/config.json")["features"]["soft"]
        assert (soft["kind"], soft["source"]) == ("ram", "data/students/dape/weights.safetensors")
    losses = (bench.folder / "reports/adapt/dape/losses.csv").read_text().splitlines()
    assert losses[0].startswith("step,representation,tags,total") and losses[-1].startswith("2,")


def test_sampling_settings_are_swept(bench):
    sweep = (bench.folder / "reports/dial/spasemsr.csv").read_text().splitlines()
    assert [line.split(",")[1:3] for line in sweep[1:]] == [["guidance", v] for v in ("1", "2", "3", "4.5", "5.5")]


def test_a_picture_in_no_column_is_restored(bench, monkeypatch):
    """By SegSR, whose labels run beside the picture: what columns would hold of it is extracted."""
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("SPASEMSR_CACHE", str(bench.cache))
    picture = read_picture(next(Path("reports/images/segsr").glob("*.lr.png")), 10**6)
    restored = load("segsr", None, None, None, "cpu").restore(picture, Settings())
    assert restored.picture.size == tuple(4 * side for side in picture.size)


@pytest.mark.slow
def test_dvc_repro_makes_the_same_bytes(bench, tmp_path):
    """Every stage in a process of its own, with an empty sample cache."""
    project = Project(tmp_path / "project", _changes(bench.folder.parent / "checkpoints"))
    printed = project.repro()
    ran = re.findall(r"Running stage '([^']+)'", printed)
    per_method = [f"{stage}@{name}" for stage in ("features", "train", "evaluate", "dial", "audit") for name in METHODS]
    once = [stage for stage, *item in BEFORE if not item]
    assert sorted(ran) == sorted([*once, "teach@dape", "adapt@dape", *per_method, "report"])
    made = ("data/shards", "data/students", "models", "reports/images", "reports/evaluate")
    assert project.tree(*made) == bench.tree(*made)
    assert "Running stage" not in project.repro()
