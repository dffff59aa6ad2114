"""The whole pipeline under the real `dvc`: run, run again, vary, extend, kill."""

import csv
import json
import re
import shutil

import pytest

from tests.worlds import imports
from tests.worlds.photographs import draw_photograph
from tests.worlds.project import Project, finished_project
from tests.worlds.served import served

pytestmark = pytest.mark.timeout(1800)  # the world is built within the first test that asks for it


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A project whose `dvc repro` has run once; tests look at it and change nothing."""
    return finished_project(tmp_path_factory.mktemp("pipeline") / "project")


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the finished project for one test to change."""
    return finished.copied_to(tmp_path / "project")


def test_every_out_is_there(finished):
    assert finished.json("reports/ingest.json")["images"].keys() == {"train", "val"}
    measured = finished.json("reports/evaluate/spasemsr/metrics.json")
    scores, intervals = measured["val"], measured["intervals"]
    for name in ("structure_error", "semantics_error"):  # of eq. 9
        assert 0 < intervals[name]["low"] <= scores["spasemsr"][name] <= intervals[name]["high"] < 2
        assert name not in scores["bicubic"]
    for method in ("spasemsr", "bicubic", "restorer"):
        assert scores[method]["psnr"] > 10 and 0 < scores[method]["ssim"] <= 1 and scores[method]["niqe"] > 0
    sweep = list(csv.DictReader((finished.folder / "reports/dial/spasemsr.csv").open()))
    assert [(row["sweep"], row["value"]) for row in sweep] == [("consistency", v) for v in ("0", "0.25", "0.5", "1")]
    assert float(sweep[-1]["lr_residual"]) < float(sweep[0]["lr_residual"])
    assert {"deviation", "lr_residual"} <= finished.json("reports/dial/spasemsr.json")["val"]["spasemsr"].keys()
    page = (finished.folder / "reports/report.html").read_text()
    assert "consistency 0.25: PSNR-Y" in page and "Spread over seeds</a>" in page
    assert "spasemsr" in page and "http://" not in re.sub(r"http://www\.w3\.org/\S+", "", page)
    rows = list(csv.DictReader((finished.folder / "reports/train/spasemsr/losses.csv").open()))
    assert [int(row["step"]) for row in rows] == [2, 4]


def test_a_second_repro_runs_nothing(finished):
    printed = finished.repro()
    assert "Running stage" not in printed
    assert "up to date" in printed


CACHED = ["ingest", "synthesize", "restore", "ground", "caption", "latents", "features spasemsr"]
TOLD = ["train spasemsr", "evaluate spasemsr", "dial spasemsr", "report"]


def test_no_library_of_networks_is_imported_by_a_cached_stage_or_before_one_says_what_it_will_do(project):
    cache = str(project.cache)
    cached = imports.run([stage.split() for stage in CACHED], project.folder, first=False, SPASEMSR_CACHE=cache)
    for stage, (printed, imported) in zip(CACHED, cached, strict=True):
        assert " 0 to compute" in printed and imported == set(), (stage, printed)
    told = imports.run([stage.split() for stage in TOLD], project.folder, SPASEMSR_CACHE=cache)
    for stage, (printed, imported) in zip(TOLD, told, strict=True):
        assert f"said {stage.split()[0]}" in printed and "spasemsr" in printed and imported == set(), (stage, printed)


def test_training_on_published_shards_gives_the_same_weights(finished, project):
    with served(finished.folder / "data/shards") as (root, asked):
        project.change({"embedded.train.shards": root})
        shutil.rmtree(project.folder / "data/shards")
        project.run("python", "-m", "pipeline", "train", "spasemsr", no_proxy="127.0.0.1")
    assert any(path.endswith(".tar") for path in asked)
    assert project.tree("models") == finished.tree("models")


def test_two_workers_restore_the_same_pictures(finished, project, tmp_path):
    """Without the sample cache, so that both really restore; dial and audit hand out pictures by the same code."""
    new = str(tmp_path / "new")
    project.run("python", "-m", "pipeline", "evaluate", "spasemsr", "--workers", "2", SPASEMSR_CACHE=new)
    reports = ("reports/images", "reports/evaluate")
    assert project.tree(*reports) == finished.tree(*reports)


def test_columns_load_with_the_webdataset_library(finished):
    script = """
import glob, webdataset as wds
for column in ("hr", "lr", "restored", "objects", "caption", "latents", "features/spasemsr"):
    tars = sorted(glob.glob(f"data/shards/{column}/*.tar"))
    samples = list(wds.WebDataset(tars, shardshuffle=False, empty_check=False))
    print(column, len(samples), sorted(set(k for s in samples for k in s if not k.startswith("__"))))
"""
    printed = finished.run("python", "-W", "ignore", "-c", script).stdout.splitlines()
    patches = finished.json("reports/ingest.json")["patches"]
    both = patches["train"] + patches["val"]
    assert printed[0] == f"hr {both} ['hr.png']"
    assert printed[1] == f"lr {both} ['degradation.0.json', 'degradation.1.json', 'lr.0.png', 'lr.1.png']"
    assert printed[2] == f"restored {both} ['restored.0.png', 'restored.1.png']"
    assert printed[3] == f"objects {both} ['masks.png', 'objects.json']"
    assert printed[4] == f"caption {both} ['caption.0.json', 'caption.1.json']"
    assert printed[5] == f"latents {patches['train']} ['moments.npy']"
    assert printed[6] == f"features/spasemsr {patches['train']} ['sam.npy']"


def test_dvc_plots_give_the_curves_of_the_page(finished):
    drawn = json.loads(finished.run("dvc", "plots", "show", "--json").stdout)["data"]
    axes = {}
    for path, (plot,) in drawn.items():
        content = plot["content"]
        layer = content["layer"][0] if "layer" in content and "y" not in content["encoding"] else content
        axes[path] = [axis["field"] for axis in (content["encoding"]["x"], layer["encoding"]["y"])]
    assert axes == {
        "reports/train/spasemsr/losses.csv": ["step", "total"],
        "reports/dial/spasemsr.csv": ["psnr", "niqe"],
        "reports/tradeoff.csv": ["psnr", "niqe"],
    }
    dial = drawn["reports/dial/spasemsr.csv"][0]["content"]
    assert dial["layer"][0]["mark"] == "line" and "DVC_METRIC" not in json.dumps(dial)
    assert [row["value"] for row in dial["data"]["values"]] == ["0", "0.25", "0.5", "1"]


def test_another_lambda_trains_again_and_touches_no_column(project):
    before = project.tree("data")
    result = project.run("dvc", "exp", "run", "-S", "lambda=0.7")
    ran = re.findall(r"Running stage '([^']+)'", result.stdout + result.stderr)
    assert ran[0] == "train@spasemsr" and ran[-1] == "report"
    assert sorted(ran[1:-1]) == ["audit@spasemsr", "dial@spasemsr", "evaluate@spasemsr"]  # none waits for another
    assert project.tree("data") == before
    changed = project.run("dvc", "metrics", "diff").stdout
    assert "spasemsr.psnr" in changed and "bicubic" not in changed


def test_ablations_are_params(project):
    switches = ("model.constraint.img=false", "model.spatial.boxes=false")
    changes = [word for switch in switches for word in ("-S", f"embedded.methods.spasemsr.{switch}")]
    result = project.run("dvc", "exp", "run", *changes, "train@spasemsr")
    assert re.findall(r"Running stage '([^']+)'", result.stdout + result.stderr) == ["train@spasemsr"]
    names = (project.folder / "models/spasemsr/weights.safetensors").read_bytes()[:200_000]
    assert b"heads.sem" in names and b"heads.img" not in names and b"fusion." not in names


def test_two_more_photographs_cost_two_photographs(project):
    before, counts = project.tree("data/shards"), project.json("reports/ingest.json")
    for seed in (1, 2):
        draw_photograph(project.folder / "data/raw" / f"mine{seed}.png", seed)
    printed = project.repro("train@spasemsr")
    added = sum(project.json("reports/ingest.json")["patches"].values()) - sum(counts["patches"].values())
    assert 0 < added <= 6
    for stage, per_patch in (("ground", 1), ("ingest", 1)):
        done = re.search(rf"{stage}\s.* (\d+) to compute", printed)
        assert done and int(done.group(1)) == added * per_patch, printed
    after = project.tree("data/shards")
    for column in ("hr", "lr", "objects", "caption"):
        tars = {path for path in after if path.startswith(f"data/shards/{column}/") and path.endswith(".tar")}
        rewritten = {path for path in tars if before.get(path) != after[path]}
        assert 0 < len(rewritten) <= 2, rewritten


def test_bad_params_and_bad_input_are_refused_before_any_work(tmp_path):
    project = Project(tmp_path / "bad")
    project.change({"lambda": 7})
    result = project.run("dvc", "repro", check=False)
    assert result.returncode and "lambda = 7: Input should be less than or equal to 1" in result.stderr
    project.change({"lambda": 0.5, "embedded.data.packages": []})
    result = project.run("dvc", "repro", check=False)
    assert result.returncode and "No photographs" in result.stderr
    (project.folder / "data/raw/broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = project.run("dvc", "repro", check=False)
    assert result.returncode and "1 of 1 photographs cannot be used" in result.stderr
    (project.folder / "data/raw/broken.jpg").unlink()
    draw_photograph(project.folder / "data/raw/one.png", 1)
    result = project.run("dvc", "repro", check=False)
    assert result.returncode and "Only 1 usable photograph" in result.stderr
