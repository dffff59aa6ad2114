"""Two metrics' ranks of the same methods, from the records of `spasemsr score` to the lines of `spasemsr tables`."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.tools import score, scored
from pipeline.tools.rankings import rankings
from spasemsr.errors import UserError
from spasemsr.evaluation.metrics import Metric
from tests.worlds import ROOT
from tests.worlds.sample_report import photograph


def fake(name: str) -> Metric:
    """Stands for LPIPS (the mean error) or ST-LPIPS (the largest one); their real weights are not needed to rank."""
    worst = {"lpips": np.mean, "stlpips": np.max}[name]

    def compute(restored, hr):
        return float(worst(np.abs(restored.astype(float) - hr))) / 255

    about = {"implementation": "here", "version": "1", "colour_space": "RGB", "weights": "none", "recipe": "a test's"}
    return Metric(name, name.upper(), False, True, 4, compute, **about)


@pytest.fixture
def records(tmp_path, monkeypatch) -> list[dict]:
    """Three methods: one blurs a little, one much, one leaves all as it is but for a single white pixel."""
    monkeypatch.setattr(score, "build_metric", fake)
    for number in range(2):
        hr = photograph("chelsea.png", 40 * number, 40, 48)
        speck = hr.copy()
        speck[20, 20] = 255 - hr[20, 20] // 128 * 255
        for method, picture in {
            "hr": hr,
            "little": cv2.GaussianBlur(hr, (0, 0), 0.5),
            "much": cv2.GaussianBlur(hr, (0, 0), 3),
            "speck": speck,
        }.items():
            (tmp_path / method).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / method / f"{number}.png")
    for method in ("much", "little", "speck"):
        written = tmp_path / "scores" / f"{method}.json"
        asked = (tmp_path / method, tmp_path / "hr", None, ("lpips", "stlpips"), method)
        list(score.run(score.Request(*asked, json=written)))
    return scored.read_records(Path(tmp_path / "scores"))


def test_both_ranks_stand_side_by_side_with_their_agreement(records):
    heading, _, *rows, agreement, _ = rankings(records)
    assert heading == "Ranks by lpips and by stlpips · given, n 2 · MEASURED"
    assert [(row.split()[0], row.split()[1], row.split()[3]) for row in rows] == [
        ("speck", "1", "3"), ("little", "2", "1"), ("much", "3", "2"),
    ]  # fmt: skip
    assert agreement == "Spearman's rho -0.50, Kendall's tau -0.33 over 3 methods: 2 of 3 pairs the other way round"
    for row in (row for record in records for row in record["rows"]):
        row["higher_is_better"] = True
    assert [row.split()[0] for row in list(rankings(records))[2:5]] == ["much", "little", "speck"]


def test_what_is_not_comparable_is_not_ranked(records):
    assert list(rankings(records[:1])) == list(rankings(records, ("lpips", "psnr"))) == []
    other_images = {**records[1], "set": {**records[1]["set"], "keys_sha256": "0"}}
    assert list(rankings([records[0], other_images])) == []
    weights = [{**row, "weights": "others"} for row in records[1]["rows"]]
    assert list(rankings([records[0], {**records[1], "rows": weights}])) == []
    equal = {**records[0], "method": "again"}
    assert "No agreement can be stated" in list(rankings([records[0], equal]))[-2]


def test_of_the_model_cards_photographs_each_has_a_key_of_its_own(tmp_path):
    """Its benchmark keeps pictures and scores by key: of two files of one key the second would replace the first."""
    every_tenth = runpy.run_path(str(ROOT / "benchmarks/nano.py"))["every_tenth"]
    for number in range(12):
        (tmp_path / f"{number:02}.jpg").touch()
    assert [path.name for path in every_tenth(tmp_path, 1)] == ["01.jpg", "11.jpg"]
    (tmp_path / "01.png").touch()
    with pytest.raises(UserError, match=r"01\.jpg and 01\.png have the same key, 01"):
        every_tenth(tmp_path, 1)
