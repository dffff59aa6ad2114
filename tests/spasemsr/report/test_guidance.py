"""What guidance does, as the page says it: sentences, the probe's one table, attention as a plot."""

from dataclasses import replace

import pytest

from spasemsr.evaluation.findings import CHANGE
from spasemsr.report import figures
from spasemsr.report.build import build_page
from spasemsr.report.guidance import guidance, probe
from tests.worlds.sample_report import sample_report

STATES = [
    {
        "condition": "maps",
        "state": state,
        "images": 3,
        "differences": {
            CHANGE: {"mean": 2.0, "low": 1.5, "high": 2.5},
            "psnr": {"mean": -0.4, "low": low, "high": -0.1},
        },
    }
    for state, low in (("none", -0.7), ("truth", None))
]
ROW = {
    **{"place": 0.33, "kind": 1.0, "level": 0.5, "psnr": 27.5, "place_by_chance": 0.1667, "kind_by_chance": 0.5},
    **{"place_of_kind_by_chance": 0.3333, "level_by_chance": 0.5, "scenes": 60, "regions": 180},
}
FOUND = {
    "states": STATES,
    "seed": {"images": 3, "differences": {CHANGE: {"mean": 1.25, "low": 1.0, "high": 1.5}}},
    "edit": {"images": 3, "inside": 6.0, "outside": 1.5, "inside_db": 4.0, "outside_db": 0.2},
    "grounding": {"images": 3, "objects": 12, "placed": 7, "named": 5},
    "not_used": ["caption"],
    "attention": {"unet 0": 1.0, "unet 1": 64.0, "unet 2": 0.5},
    "probe": {"own": ROW, "unplaced": {**ROW, "place": 0.31}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return replace(sample_report(tmp_path_factory.mktemp("report")), audits={"spasemsr": FOUND, "bicubic": FOUND})


def test_it_is_said_in_words_also_where_the_answer_is_nothing(data):
    sentences = " ".join(guidance(data)[0]["sentences"])
    assert "Taking away the maps changes a result by 2.00 grey levels and PSNR-Y by -0.400: clearly." in sentences
    assert "4.0 times as much inside its box as outside" in sentences and "4.0 dB and 0.2 dB" in sentences
    assert "of 12 objects it finds on the ground truth of 3 images, 7 have a box at the same place" in sentences
    assert "Other noise alone changes a result by 1.25 grey levels." in sentences
    assert "1.00 times as strongly inside its box as outside in the middle one of 3 layers" in sentences
    assert "words do not know their place" in sentences  # one layer at 64 does not say so
    assert "Not used by this method: caption." in sentences
    nothing = {
        **STATES[0],
        "differences": {**STATES[0]["differences"], "psnr": {"mean": 0.0, "low": -0.1, "high": 0.1}},
    }
    absent = {"edit": None, "grounding": None, "attention": {}}
    bare = replace(data, audits={"spasemsr": {**FOUND, "states": [nothing], **absent}})
    (part,) = guidance(bare)
    assert "not clearly different from nothing" in part["sentences"][0] and part["attention"] is None


def test_all_methods_stand_in_one_table_with_what_chance_gives(data):
    lines = probe(data)
    assert [(line["method"], line["conditions"]) for line in lines] == [
        ("SpaSemSR", "everything the method uses, as it is"), ("SpaSemSR", "tags without boxes"),
        ("Bicubic", "everything the method uses, as it is"), ("Bicubic", "tags without boxes"),
    ]  # fmt: skip
    assert lines[0]["cells"][0] == {"mean": "33.0%", "bounds": "by chance 17%, 33% among the scene's own"}


def test_strong_attention_is_labelled_with_whole_numbers():
    chart = figures.attention({"unet 0": 0.5, "unet 1": 900.0}, "spasemsr")
    assert "1024" in (labels := [tick.text for tick in chart.y_ticks]) and not any("e" in label for label in labels)


def test_attention_is_a_plot_with_one_as_its_reference():
    chart = figures.attention(FOUND["attention"], "spasemsr")
    assert [dot.text for dot in chart.dots] == ["unet 0: 1.00 times", "unet 1: 64.00 times", "unet 2: 0.50 times"]
    one, strong, weak = (dot.y for dot in chart.dots)
    assert strong < one < weak  # down the page is less
    assert (one - strong) == pytest.approx(6 * (weak - one), rel=1e-3)  # doublings are equal steps
    assert {point[1] for point in chart.strokes[1].points} == {one}
    assert "1" in [tick.text for tick in chart.y_ticks]


def test_the_page_holds_them(data, tmp_path):
    build_page(data, tmp_path / "report.html", tmp_path / "tradeoff.csv")
    html = (tmp_path / "report.html").read_text()
    for text in ("What guidance does", "tags without boxes", "The dashed line is 1", "the maps of hr"):
        assert text in html
