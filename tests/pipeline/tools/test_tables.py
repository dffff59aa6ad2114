"""Published numbers beside measured ones, the variants of Tables 3 and 4, and the recipes that train them."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipeline.tools import experiment
from pipeline.tools.experiment import recipes
from spasemsr.config import parse_params
from spasemsr.errors import UserError
from spasemsr.evaluation.published import Number, published, render, titles, write_csv
from spasemsr.evaluation.testsets import SETS
from spasemsr.methods import method, names
from tests.worlds import ROOT

VARIANTS = {variant.label: variant.values for variant in method("spasemsr").variants}


def test_every_published_number_is_there_once():
    numbers = published()
    assert Counter(number.table for number in numbers) == {
        **{"1-2": 10 * 3 * 5, "3": 3 * 3 * 3, "4": 2 * 3 * 2},
        **{"SeeSR 2": 11 * (3 * 9 + 4) - 4, "SeeSR 7": 3 * 2 * 4, "SegSR 2": 5 * 2 * 4},
        **{"MegaSR 1": 13 * (3 * 7 + 4), "MegaSR 2": 2 * 4, "MegaSR 3": 2 * 4, "MegaSR 4": 4 * 4},
    }
    assert {number.table for number in numbers} == titles().keys()
    assert len({(n.table, n.method, n.where, n.metric) for n in numbers}) == len(numbers)
    own = {f"DIV2K-Val ({name}'s)" for name in ("SegSR", "MegaSR")}  # other crops than SeeSR's
    assert {n.where for n in numbers} - own == {"div2k-val-a", "realsr", "drealsr", "reallr200", "dped-iphone"}
    assert {n.where for n in numbers} - own <= SETS.keys()
    cells = {(n.table, n.method, n.where, n.metric): n.value for n in numbers}
    for metric in ("psnr", "ssim"):  # the full model stands in two tables
        assert cells["1-2", "SpaSemSR", "realsr", metric] == cells["4", "Ours", "realsr", metric]
    # As it is printed: on RealSR the variant without the VAE constraint beats the full model in all three.
    for metric in ("clipiqa", "musiq", "maniqa"):
        assert cells["3", "Ours-w/o-vae", "realsr", metric] > cells["3", "Ours", "realsr", metric]
    assert (
        cells["1-2", "XPSR", "drealsr", "musiq"] == 67.02 and cells["4", "Ours-w/o-spatial", "realsr", "psnr"] == 23.9
    )


def test_measured_never_shares_a_column_with_published(tmp_path):
    measured = [
        Number("1-2", "SeeSR", "realsr", "psnr", 25.1599, "spasemsr score, n 100"),
        Number("1-2", "Bicubic", "val", "psnr", 27.5, "embedded, split val"),
    ]
    lines = render(measured)
    heading = next(line for line in lines if "PUBLISHED" in line)
    row, bicubic = (next(line for line in lines if line.startswith(name)) for name in ("SeeSR", "Bicubic"))
    column = heading.index("MEASURED: spasemsr score, n 100")
    assert heading.index("PUBLISHED") < column < heading.index("MEASURED: embedded, split val")
    assert "25.15" in row[:column] and row[column:].split() == ["25.16"]
    assert bicubic.split() == ["Bicubic", "27.50"]
    assert "Nothing published was measured here" in " ".join(lines[-2:])
    write_csv(tmp_path / "t.csv", measured)
    text = (tmp_path / "t.csv").read_text().splitlines()
    assert len(text) == 1 + len(published()) + 2
    assert text[-2] == '1-2,SeeSR,realsr,psnr,"spasemsr score, n 100",25.16'


def test_the_recipes_are_what_the_command_runs():
    for grid in ("tables", "lambda"):
        lines = [line for line in (ROOT / "experiments" / f"{grid}.sh").read_text().splitlines() if line[:3] == "dvc"]
        assert [shlex.split(line)[1:] for line in lines] == [
            recipe.arguments(queue=True) for recipe in recipes(grid, "embedded", ["spasemsr"])
        ]
    with pytest.raises(UserError, match="No grid 'tabels'"):
        recipes("tabels", "embedded", [])


@pytest.mark.parametrize("profile", ["embedded", "foundation"])
def test_every_recipe_is_valid_params_and_a_variant_of_its_own(profile):
    seen = set()
    found = [*recipes("tables", profile, names()), *recipes("lambda", profile, [])]
    assert len({recipe.name for recipe in found}) == len(found)
    assert all(re.fullmatch(r"[a-z0-9.-]+", recipe.name) for recipe in found)
    for recipe in found:
        raw = yaml.safe_load((ROOT / "params.yaml").read_text())
        for key, value in recipe.changes.items():
            *parents, last = key.split(".")
            place = raw
            for part in parents:
                place = place[part]
            assert last in place, f"{key} is no param"
            place[last] = value
        parse_params(raw, recipe.name)
        seen.add(json.dumps(raw, sort_keys=True))
    # lambda 0.5 of the sweep is the full model of the tables
    variants = sum(len(method(name).variants) for name in names())
    # every whole method is the params as they are, and so is lambda 0.5
    assert len(seen) == variants + len(experiment.LAMBDAS) - len(names())


def row(name: str, states: tuple[bool, bool, bool], psnr: float, lambda_: float = 0.5, steps: int = 300) -> dict:
    """One entry of `dvc exp show --json`."""
    model = {"constraint": {"img": states[0], "sem": states[1]}, "spatial": {"boxes": states[2]}}
    params = {
        "profile": "embedded",
        "lambda": lambda_,
        "seed": 1,
        "embedded": {"methods": {"spasemsr": {"model": model}}, "train": {"steps": steps}},
    }
    means = {"val": {"spasemsr": {"psnr": psnr}, "bicubic": {"psnr": 20.0}, "hr": {"niqe": 5.0}}}
    metrics = {"reports/evaluate/spasemsr/metrics.json": {"data": means}, "reports/ingest.json": {"data": {}}}
    return {"name": name, "rev": name, "data": {"params": {"params.yaml": {"data": params}}, "metrics": metrics}}


def shown(monkeypatch, *rows: dict) -> None:
    """Let DVC answer with these experiments of one commit, the workspace first."""
    listing = [row("workspace", (True, True, True), 25.0)]
    listing.append({"rev": "abc", "name": "main", "data": {}, "experiments": [{"revs": [entry]} for entry in rows]})
    answer = subprocess.CompletedProcess([], 0, json.dumps(listing), "")
    monkeypatch.setattr(experiment, "_dvc", lambda arguments, capture=True: answer)


def test_variants_are_recognised_by_their_params_not_by_their_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown(
        monkeypatch,
        row("quick-fox", VARIANTS["Ours-w/o-spatial"], 24.0),
        row("odd", (False, False, True), 1.0),  # no variant of the paper
        row("longer", VARIANTS["Ours-w/o-vae"], 26.0, steps=900),
    )
    cells = {(n.table, n.method): n for n in experiment.numbers()}
    assert cells["4", "Ours"].value == 25.0 and cells["4", "Ours-w/o-spatial"].value == 24.0
    assert cells["4", "Ours"].origin == cells["4", "Ours-w/o-spatial"].origin  # one column: only the switch differs
    assert cells["3", "Ours-w/o-vae"].origin != cells["3", "Ours"].origin  # trained longer: a column of its own
    assert cells["1-2", "Bicubic"].value == 20.0 and 1.0 not in {n.value for n in cells.values()}
    assert not any(n.method == "hr" for n in cells.values())


def test_lambda_sweep(monkeypatch):
    full = VARIANTS["Ours"]
    shown(monkeypatch, row("l0", full, 24.5, 0.0), row("l1", full, 23.5, 1.0), row("other", full, 9.0, 0.75, steps=1))
    lines = experiment.sweep_lines()
    assert [line.split() for line in lines[2:-1]] == [["0", "24.5000"], ["0.5", "25.0000"], ["1", "23.5000"]]


def test_experiments_that_are_there_are_not_run_again(monkeypatch):
    shown(monkeypatch, *(row(recipe.name, VARIANTS["Ours"], 1.0) for recipe in recipes("lambda", "embedded", [])))
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    lines = list(experiment.run(parse_params(raw, "params.yaml"), "lambda", queue=False))
    assert sum("measured already" in line for line in lines) == len(experiment.LAMBDAS)


def test_outside_of_a_project_the_reason_is_said(monkeypatch):
    broken = subprocess.CompletedProcess([], 253, "", "ERROR: you are not inside of a DVC repository\n")
    monkeypatch.setattr(experiment, "_dvc", lambda arguments, capture=True: broken)
    with pytest.raises(UserError, match="not inside of a DVC repository"):
        experiment.measured()


def test_scores_of_other_code_become_measured_columns(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shown(monkeypatch)
    experiment.SCORES.mkdir(parents=True)
    record = {"method": "SeeSR", "set": {"name": "realsr"}, "rows": [{"metric": "psnr", "mean": 25.2, "n": 100}]}
    (experiment.SCORES / "seesr.json").write_text(json.dumps(record))
    assert Number("1-2", "SeeSR", "realsr", "psnr", 25.2, "spasemsr score, n 100") in experiment.numbers()
    (experiment.SCORES / "other.json").write_text("{}")
    with pytest.raises(UserError, match=r"other\.json was not written by"):
        experiment.numbers()


def test_photographs_that_git_does_not_keep_travel_with_an_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = Path("data/raw")
    assert experiment.own_photographs(raw) == []
    (raw / "holiday").mkdir(parents=True)
    (raw / "a.jpg").touch()
    assert experiment.own_photographs(raw) == ["data/raw"]  # a folder that a checkout would not make
    (raw / "README.md").touch()
    assert experiment.own_photographs(raw) == ["data/raw/a.jpg", "data/raw/holiday"]
    (recipe, *_) = recipes("lambda", "embedded", [])
    assert recipe.arguments(False, ["data/raw/a.jpg"])[2:5] == ["--temp", "-C", "data/raw/a.jpg"]


def test_photographs_outside_the_project_are_named_absolutely_and_not_copied(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "pics, é=1").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    outside = Path("../pics, é=1")
    assert experiment.own_photographs(outside) == []
    (recipe, *_) = recipes("lambda", "embedded", [])
    recipe = replace(recipe, changes={**experiment.elsewhere(outside), **recipe.changes})
    setting = recipe.arguments(False)[recipe.arguments(False).index("-S") + 1]
    assert _parsed(setting) == {"photographs": str(tmp_path / "pics, é=1")}
    assert experiment.elsewhere("data/raw") == experiment.elsewhere(tmp_path) == {}


@pytest.mark.parametrize("name", ["é", "~me", "a, b", "a=b", "it's", 'say "hi"', "a b", "${x}", "(1)"])
def test_a_path_in_quotes_is_a_setting_whatever_is_in_it(name):
    """As the README says to write it: dvc exp run -S 'photographs="/path"'."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    assert _parsed(f'photographs="/pics/{quoted}"') == {"photographs": f"/pics/{name}"}


def _parsed(setting: str) -> dict[str, str]:
    """What `dvc exp run -S` makes of a setting."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (override,) = OverridesParser.create().parse_overrides([setting])
    return {override.key_or_group: override.value()}


def test_what_dvc_itself_answers_is_understood(tmp_path, monkeypatch):
    """A repository of two files, through the real command: params and metrics of the workspace become a measurement."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    entry = row("", VARIANTS["Ours-w/o-vae"], 24.25)["data"]
    Path("params.yaml").write_text(yaml.safe_dump(entry["params"]["params.yaml"]["data"]))
    metrics = "reports/evaluate/spasemsr/metrics.json"
    Path(metrics).parent.mkdir(parents=True)
    Path(metrics).write_text(json.dumps(entry["metrics"][metrics]["data"]))
    stage = {"cmd": "true", "params": ["profile"], "metrics": [{metrics: {"cache": False}}]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate": stage}}))
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "start"]):
        subprocess.run(["git", *command], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    workspace = next(run for run in experiment.measured() if run.name == "workspace")
    assert (workspace.variants["spasemsr"].label, workspace.lambda_, workspace.profile) == (
        "Ours-w/o-vae",
        0.5,
        "embedded",
    )
    assert workspace.means["spasemsr"] == {"psnr": 24.25}
