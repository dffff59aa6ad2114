"""`spasemsr guidance`: what guidance does to a model's results on a folder of photographs, in words and as JSON."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pipeline.commands.scores import guidance
from pipeline.tools import upscale
from pipeline.tools.audit import Request, run
from spasemsr.errors import UserError
from spasemsr.evaluation.findings import CHANGE
from tests.worlds.tiny_upscaler import photograph, tiny_upscaler


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The lines and the record of two photographs and of files that cannot be asked; 82 px are no multiple of 4."""
    folder = tmp_path_factory.mktemp("photographs")
    photograph(96, 96).save(folder / "a.png")
    photograph(80, 80).save(folder / "b.png")
    photograph(80, 96).save(folder / "a.webp")
    photograph(80, 96).save(os.fsencode(folder) + b"/caf\xe9.png", "PNG")
    (folder / "broken.png").write_bytes(b"not a picture")
    request = Request(folder, images=5, seeds=1, side=82, preset="seesr", metrics=("psnr",), json=folder / "audit.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPASEMSR_CACHE", str(folder / "cache"))
        lines = list(run(request, partial(tiny_upscaler, workers=1)))
    return lines, json.loads(request.json.read_text())


def test_every_condition_is_said_in_words_and_measured(asked):
    lines, record = asked
    text = "\n".join(lines)
    for condition in ("tags", "boxes", "caption"):
        assert f"Taking away the {condition} changes a result by" in text
    assert "Not used by this method: maps and soft prompt." in text
    rows = {(row["condition"], row["state"]): row for row in record["audit"]["states"]}
    assert {state for _, state in rows} == {"none", "other", "truth"}
    assert rows["tags", "none"]["differences"][CHANGE]["mean"] > 0
    assert rows["tags", "none"]["images"] == 2 and record["audit"]["attention"]


def test_a_file_that_is_no_photograph_is_left_out_and_said(asked):
    lines, record = asked
    assert record["photographs"] == ["a", "b"]
    left_out = record["left_out"]
    assert [*left_out] == ["a.webp", "broken.png", "caf\\xe9.png"] and lines[1].startswith("left out broken.png: ")
    assert left_out["a.webp"] == "another file is called a too" and "not UTF-8" in left_out["caf\\xe9.png"]


def test_no_metric_is_said_before_anything_is_loaded(tmp_path):
    request = Request(tmp_path, 2, 1, 80, "seesr", (), tmp_path / "audit.json")
    with pytest.raises(UserError, match="no metric"):
        list(run(request, lambda: pytest.fail("a model was loaded")))


def test_a_folder_without_photographs_is_refused(tmp_path):
    request = Request(tmp_path, 2, 1, 80, "seesr", ("psnr",), tmp_path / "audit.json")
    with pytest.raises(UserError, match="no photograph"):
        list(run(request, partial(tiny_upscaler, workers=1)))
    assert not request.json.exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "fog"}, "No preset 'fog'"),
        ({"metrics": ("beauty",)}, "No metric named"),
        ({"json": Path(__file__) / "audit.json"}, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said_before_work(tmp_path, wrong, said):
    request = replace(Request(tmp_path, 2, 1, 80, "seesr", ("psnr",), tmp_path / "audit.json"), **wrong)
    with pytest.raises(UserError, match=said):
        next(run(request, lambda: pytest.fail("weights were loaded")))


def test_the_command_checks_before_it_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(upscale, "load", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(UserError, match="No preset 'fog'"):
        guidance(tmp_path, preset="fog", json=tmp_path / "audit.json")
