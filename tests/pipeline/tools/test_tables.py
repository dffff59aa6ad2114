"""Published numbers beside measured ones, the variants of Tables 3 and 4, and the recipes that train them."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipeline.tools import experiment
from pipeline.tools import recipes as recipes_of
from pipeline.tools.recipes import LAMBDAS, recipes, switches
from spasemsr.config import Params, parse_params
from spasemsr.errors import UserError
from spasemsr.evaluation.published import Number, published, render, titles, write_csv
from spasemsr.evaluation.testsets import SETS
from spasemsr.methods import method, names
from tests.worlds import ROOT

RAW = yaml.safe_load((ROOT / "params.yaml").read_text())
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
    assert bicubic.index("27.50") >= heading.index("MEASURED: embedded")  # below its own heading
    assert "Nothing published was measured here" in " ".join(lines[-2:])
    write_csv(tmp_path / "t.csv", measured)
    text = (tmp_path / "t.csv").read_text().splitlines()
    assert len(text) == 1 + len(published()) + 2
    assert text[-2] == '1-2,SeeSR,realsr,psnr,"spasemsr score, n 100",25.16'


def test_what_is_too_wide_goes_on_below():
    """Nine columns of each of three folders, beside the 15 that are published."""
    measured = [Number("1-2", "A", where, f"m{n}", 1.0, "here") for where in "abc" for n in range(9)]
    assert [len(line.split()) - 1 for line in render(measured) if line.startswith("method ")][:3] == [15, 18, 9]


def params(profile: str = "embedded", methods: list[str] | None = None, raw: dict | None = None) -> Params:
    """The project's params.yaml, or changed ones, with this profile and these methods."""
    return parse_params({**(raw or RAW), "profile": profile, "methods": methods or ["spasemsr"]}, "params.yaml")


@pytest.mark.parametrize("profile", ["embedded", "probe", "foundation"])
def test_every_recipe_is_valid_params_and_a_variant_of_its_own(profile):
    seen = set()
    plain = params(profile, names())
    found = {
        recipe.name: recipe for grid in ("tables", "readings", "lambda") for recipe in recipes(plain, grid)
    }.values()
    stated = json.dumps(RAW)
    assert all(re.fullmatch(r"[a-z0-9.-]+", recipe.name) for recipe in found)
    for recipe in found:
        raw = json.loads(stated)
        for key, value in recipe.changes.items():
            *parents, last = key.removeprefix("++").split(".")
            place = raw
            for part in parents:
                place = place.setdefault(part, {}) if key.startswith("++") else place[part]
            assert last in place or key.startswith("++"), f"{key} is no param"
            place[last] = value
        params(profile, names(), raw)
        seen.add((recipe.method, json.dumps(raw, sort_keys=True)))
    assert len(seen) == len(found) - 1  # lambda 0.5 of the sweep is the whole method of the tables


@pytest.mark.parametrize(("profile", "reading"), [("embedded", "keys"), ("probe", "keys")])
def test_variants_begin_where_no_part_under_test_was_seen(profile, reading):
    first, *rest = recipes(params(profile), "tables", seeds=2, steps=400)
    assert first.stage == "train@spasemsr" and not first.row
    assert [first.changes[f"{profile}.{switch}"] for switch in switches("spasemsr")] == [False] * 3
    assert first.changes[f"++{profile}.methods.spasemsr.train.init"] is None
    assert {recipe.begins for recipe in rest} == {first.name}
    assert {recipe.changes[f"++{profile}.methods.spasemsr.train.steps"] for recipe in rest} == {400}
    rows = [recipe.row for recipe in rest]
    assert rows[:5] == rows[5:] == [*VARIANTS, f"Ours, binding {reading}"]
    seeds = [recipe.changes.get("seed") for recipe in rest]
    assert seeds == [None] * 5 + [params().seed + 1] * 5


def test_other_readings_begin_where_nothing_they_leave_out_was_seen():
    found = recipes(params("probe", ["spasemsr", "seesr"]), "readings", seeds=2)
    firsts, rows = [recipe for recipe in found if not recipe.row], [recipe for recipe in found if recipe.row]
    assert firsts[0] == recipes(params("probe"), "tables")[0] and {recipe.method for recipe in found} == {"spasemsr"}
    begins = {recipe.row: recipe.begins.removeprefix("probe-spasemsr-first") for recipe in rows}
    assert list(begins.values()) == ["-150", "-encoders.sem-false-150", "-text.objects-false-150",
                                     "-base-text-empty-150", "-base-text-spa-150", "-150"]  # fmt: skip
    assert [recipe.begins for recipe in rows[:6]] == [recipe.begins for recipe in rows[6:]]
    assert {recipe.name for recipe in firsts} == {recipe.begins for recipe in rows}
    whole, semantic, spatial, *_ = rows
    assert whole in recipes(params("probe"), "tables") and semantic.row == "Ours-w/o-semantic, no E_sem"
    for recipe, part, switch in (
        (semantic, "encoders.sem", "constraint.sem"),
        (spatial, "text.objects", "spatial.boxes"),
    ):
        (first,) = (each for each in firsts if each.name == recipe.begins)
        for each in (recipe, first):
            assert each.changes[f"++probe.methods.spasemsr.model.{part}"] is False
            assert each.changes[f"probe.methods.spasemsr.model.{switch}"] is False
    with pytest.raises(UserError, match="one reading of seesr"):
        recipes(params("probe", ["seesr"]), "readings")


def test_lambda_is_swept_from_the_weights_that_saw_neither_half_of_its_loss():
    first, *sweep = recipes(params("probe"), "lambda")
    assert first == recipes(params("probe"), "tables")[0]
    assert [recipe.changes["lambda"] for recipe in sweep] == list(LAMBDAS)
    assert {recipe.begins for recipe in sweep} == {first.name} and sweep[0].name == "probe-spasemsr-lambda-0-300"
    with pytest.raises(UserError, match="lambda weights no loss of seesr"):
        recipes(params("probe", ["seesr"]), "lambda")
    with pytest.raises(UserError, match="No grid 'tabels'"):
        recipes(params(), "tabels")


def test_what_experiments_take_and_resolve_is_said_before_they_start(monkeypatch):
    cost = SimpleNamespace(
        name="spasemsr", train=SimpleNamespace(steps=100), train_hours=0.5, rate=(4.0, "measured here: x")
    )
    cost.evaluate_hours = lambda counts: 0.1
    counted = SimpleNamespace(methods=[cost], counts=SimpleNamespace(evaluation=50), hardware=SimpleNamespace(gpu=None))
    monkeypatch.setattr(recipes_of, "make_plan", lambda *_: counted)
    chosen = recipes(params(), "tables", seeds=3)
    said = list(recipes_of.outlook(params(), chosen))
    # a first phase of 2,000 steps and 15 variants of 2,000, each evaluated
    assert said[0] == f"16 experiments, about {16 * 10 + 15 * 0.1:.1f} hours of a CPU core (measured here)"
    assert "50 images are scored" in said[1] and "0.021 dB of PSNR apart" in said[1]


def row(
    name: str, states: tuple[bool, bool, bool], psnr: float, lambda_: float = 0.5, steps: int = 300, seed: int = 1
) -> dict:
    """One entry of `dvc exp show --json`."""
    model = {"constraint": {"img": states[0], "sem": states[1]}, "spatial": {"boxes": states[2]}}
    params = {
        "profile": "embedded",
        "lambda": lambda_,
        "seed": seed,
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
    shown(monkeypatch, *(row(f"seed{seed}", VARIANTS["Ours-w/o-vae"], 20.0 + seed, seed=seed) for seed in (2, 3)))
    (mean,) = (n for n in experiment.numbers() if n.method == "Ours-w/o-vae" and n.table == "3")
    assert mean.value == 22.5 and mean.origin.endswith("2 seeds")


def test_lambda_sweep(monkeypatch):
    full = VARIANTS["Ours"]
    shown(monkeypatch, row("l0", full, 24.5, 0.0), row("l1", full, 23.5, 1.0), row("other", full, 9.0, 0.75, steps=1))
    lines = experiment.sweep_lines()
    assert [line.split() for line in lines[2:-1]] == [["0", "24.5000"], ["0.5", "25.0000"], ["1", "23.5000"]]


def test_experiments_that_are_there_are_not_run_again(monkeypatch):
    monkeypatch.setattr(experiment, "outlook", lambda *_: ["what it takes"])
    monkeypatch.setattr(experiment, "_fetched", lambda *_: None)
    other = params("embedded", ["seesr"])
    shown(monkeypatch, *(row(recipe.name, VARIANTS["Ours"], 1.0) for recipe in recipes(other, "tables")))
    lines = list(experiment.run(other, "tables"))
    assert sum("is there already" in line for line in lines) == 4
    answer = json.loads(experiment._dvc([]).stdout)
    for entry in answer[1]["experiments"][1:]:  # what was killed still says that it runs, with the commit's metrics
        entry["executor"] = {"state": "running", "name": "tempdir"}
    monkeypatch.setattr(experiment, "_dvc", lambda *_, **__: subprocess.CompletedProcess([], 0, json.dumps(answer), ""))
    assert sum("is there already" in line for line in experiment.run(other, "tables")) == 1


def test_a_first_phase_is_run_once_and_variants_begin_with_its_weights(monkeypatch, tmp_path):
    """With a DVC that has what it ran: what it is asked for, in order, and where each variant begins."""
    monkeypatch.setattr(experiment, "outlook", lambda *_: [])
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path))
    ran: dict[str, list[str]] = {}

    def dvc(arguments: list[str], capture: bool = True) -> subprocess.CompletedProcess[str]:
        if arguments[:2] == ["exp", "run"]:
            ran[arguments[arguments.index("-n") + 1]] = arguments
        elif arguments[0] == "get":
            name, place = arguments[arguments.index("--rev") + 1], Path(arguments[-1])
            if name not in ran or place.suffix == ".csv":
                return subprocess.CompletedProcess([], 1, "", "no such thing")
            place.mkdir()
            (place / "weights.safetensors").write_bytes(b"first")
        return subprocess.CompletedProcess([], 0, "[]", "")

    monkeypatch.setattr(experiment, "_dvc", dvc)
    lines = list(experiment.run(params(), "tables", queue=True, steps=50, unlike={"seed": 7}))
    first, *variants = ran
    assert (
        "--temp" in ran[first]
        and all("seed=7" in arguments for arguments in ran.values())
        and lines[-1].startswith("Start the queue")
    )
    (begun,) = (tmp_path / "begun").iterdir()
    setting = f'++embedded.methods.spasemsr.train.init="{begun}"'
    assert len(variants) == 5 and all(setting in ran[name] and "--queue" in ran[name] for name in variants)
    assert "is there already" in next(iter(experiment.run(params(), "tables", queue=True, steps=50)))


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
    recipe = recipes(params(), "lambda")[1]
    assert recipe.arguments(False, ["data/raw/a.jpg"])[2:5] == ["--temp", "-C", "data/raw/a.jpg"]


def test_photographs_outside_the_project_are_named_absolutely_and_not_copied(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "pics, é=1").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    outside = Path("../pics, é=1")
    assert experiment.own_photographs(outside) == []
    recipe = recipes(params(), "lambda")[1]
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
