"""All four methods through the real `dvc`, on the same data: features, weights, scores and one report."""

import csv

import pytest

from tests.worlds.project import Project

pytestmark = pytest.mark.timeout(1800)
SIBLINGS = ("seesr", "segsr", "megasr")
UNET = {"block_out_channels": [16, 16, 16, 16], "attention_heads": [2, 2, 2, 2], "norm_num_groups": 8}


def _changes() -> dict[str, object]:
    changes: dict[str, object] = {"methods": ["spasemsr", *SIBLINGS], "embedded.evaluate.metrics": ["psnr", "ssim"]}
    for name in SIBLINGS:
        section = f"embedded.methods.{name}"
        changes |= {f"{section}.model.unet.{key}": value for key, value in UNET.items()}
        changes[f"{section}.train"] = {"init": None, "lr": 0.0015}
    changes |= {f"embedded.methods.{name}.model.hint_channels": [4, 8, 8, 8] for name in ("seesr", "megasr")}
    changes["embedded.methods.segsr.model.segments.width"] = 16
    return changes


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("four") / "project", _changes())
    project.repro()
    return project


def test_every_method_has_scores_and_pictures_of_the_same_images(bench):
    images = {}
    for name in ("spasemsr", *SIBLINGS):
        rows = list(csv.DictReader((bench.folder / f"reports/evaluate/{name}/per_image.csv").open()))
        images[name] = {row["key"] for row in rows if row["method"] == name}
        assert all(float(row["psnr"]) > 8 for row in rows if row["method"] == name)
    assert images["spasemsr"] and all(keys == images["spasemsr"] for keys in images.values())


def test_the_report_has_a_row_for_each(bench):
    page = (bench.folder / "reports/report.html").read_text()
    assert all(label in page for label in ("SpaSemSR", "SeeSR", "SegSR", "MegaSR"))
    compared = {item["method"] for item in bench.json("reports/summary.json")["differences"]}
    assert {"spasemsr", *SIBLINGS} <= compared


def test_a_second_repro_runs_nothing(bench):
    assert "Running stage" not in bench.repro()


def test_a_picture_in_no_column_is_upscaled_by_each(bench):
    key = next((bench.folder / "reports/images/seesr").glob("*.lr.png"))
    for name in SIBLINGS:
        out = bench.folder / f"{name}.png"
        bench.run("python", "-m", "pipeline", "upscale", str(key), "--method", name, "-o", str(out))
        assert out.stat().st_size > 0
