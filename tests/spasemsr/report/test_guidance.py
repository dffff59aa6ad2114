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
        "images": 12,
        "photographs": 7,
        "differences": {
            CHANGE: {"mean": 2.0, "low": 1.5, "high": 2.5},
            "psnr": {"mean": -0.4, "low": low, "high": high, "p": p},
            "niqe": {"mean": 0.01, "low": -0.1, "high": 0.3, "p": 0.4},
        },
    }
    for state, low, high, p in (("none", -0.7, -0.1, 0.03), ("truth", None, None, None))
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
    "not_used": ["caption", "soft"],
    "attention": {"unet 0": 1.0, "unet 10": 0.5, "unet 2": 64.0},
    "probe": {"own": ROW, "unplaced": {**ROW, "place": 0.31}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return replace(sample_report(tmp_path_factory.mktemp("report")), audits={"spasemsr": FOUND, "bicubic": FOUND})


def test_it_is_said_in_words_also_where_the_answer_is_nothing(data):
    sentences = " ".join(guidance(data)[0]["sentences"])
    assert "Asked of 12 images of 7 photographs." in sentences
    effect = "PSNR-Y clearly worse, by 0.400; NIQE not clearly different."
    assert f"Taking away the maps changes a result by 2.00 grey levels: {effect}" in sentences
    assert "4.0 times as much inside its box as outside" in sentences
    assert "by 4.0 dB inside and 0.2 dB outside" in sentences
    assert "of 12 objects that it finds on the ground truth of 3 images, 7 are found on the copy" in sentences
    assert "Other noise alone changes a result by 1.25 grey levels." in sentences
    assert "1.00 times as strongly inside its box as outside in the middle one of 3 layers" in sentences
    assert "words do not know their place" in sentences  # one layer at 64 does not say so
    assert "Not used by this method: caption and soft prompt." in sentences
    unclear = {"mean": 0.0, "low": -0.1, "high": 0.1, "p": 0.9}
    nothing = {**STATES[0], "differences": {**STATES[0]["differences"], "psnr": unclear}}
    absent = {"edit": None, "grounding": None, "attention": {}}
    bare = replace(data, audits={"spasemsr": {**FOUND, "states": [nothing], **absent}})
    (part,) = guidance(bare)
    assert "PSNR-Y and NIQE not clearly different" in part["sentences"][1] and part["attention"] is None


def test_few_photographs_make_nothing_clear_whatever_their_interval_says(data):
    few = {**STATES[0], "images": 4, "photographs": 2}
    few["differences"] = {
        CHANGE: STATES[0]["differences"][CHANGE],
        "psnr": {"mean": -0.4, "low": -0.7, "high": -0.1, "p": 0.5},
    }
    (part,) = guidance(replace(data, audits={"spasemsr": {**FOUND, "states": [few], "edit": None}}))
    first, second = part["sentences"][:2]
    assert first == "Asked of 4 images of 2 photographs; no difference of a score counts as clear on so few."
    assert second.endswith("2.00 grey levels: PSNR-Y not clearly different.")
    assert [cell["verdict"] for cell in part["lines"][0]["cells"]] == [""]


def test_what_is_next_to_nothing_outside_a_box_is_no_ratio(data):
    edit = {**FOUND["edit"], "inside": 3.2, "outside": 0.004}
    (part,) = guidance(replace(data, audits={"spasemsr": {**FOUND, "edit": edit}}))
    said = next(line for line in part["sentences"] if "renames" in line)
    assert "3.20 grey levels inside its box and less than 0.01 outside;" in said and "times as much" not in said


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
    assert [dot.text for dot in chart.dots] == ["unet 0: 1.00 times", "unet 2: 64.00 times", "unet 10: 0.50 times"]
    one, strong, weak = (dot.y for dot in chart.dots)
    assert strong < one < weak  # down the page is less
    assert (one - strong) == pytest.approx(6 * (weak - one), rel=1e-3)  # doublings are equal steps
    assert {point[1] for point in chart.strokes[1].points} == {one}
    assert [tick.text for tick in chart.y_ticks] == ["0.25", "1", "4", "16", "64"]


def test_the_page_holds_them(data, tmp_path):
    build_page(data, tmp_path / "report.html", tmp_path / "tradeoff.csv")
    html = (tmp_path / "report.html").read_text()
    for text in ("What guidance does", "tags without boxes", "The dashed line is 1", "the maps of hr"):
        assert text in html
