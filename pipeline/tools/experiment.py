"""Recipes run as DVC experiments, and what all experiments measured.

An experiment is the pipeline with other params: DVC runs it in a folder of its own, reuses every stage the change does
not touch (the data is made once), and keeps params and metrics under its name.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from pipeline import layout
from pipeline.tools import paired
from pipeline.tools.recipes import Recipe, outlook, recipes, switches, train_setting
from pipeline.tools.scored import TABLE, cells_of, read_records
from spasemsr.cache import default_root
from spasemsr.config import Params
from spasemsr.errors import UserError
from spasemsr.evaluation.published import Number
from spasemsr.evaluation.scores import ScoreTable, read_per_image
from spasemsr.hashing import fingerprint
from spasemsr.methods import method, names
from spasemsr.methods.compared import label
from spasemsr.methods.face import Variant
from spasemsr.methods.stored import weights_digest

SCORES = layout.REPORTS / "scores"


@dataclass(frozen=True)
class Measured:
    """What one experiment, or the workspace, measured: variants and lambda from its params, means by method.

    `variants` says of each method of the tree which row of its paper's tables its params are, None for another one.
    `rest` names all other params but the seed: runs may share a column only where it agrees.
    """

    name: str
    variants: Mapping[str, Variant | None]
    lambda_: float
    profile: str
    rest: str
    means: Mapping[str, Mapping[str, float]]
    seeds: tuple[Any, ...]


def run(
    params: Params,
    grid: str,
    queue: bool = False,
    seeds: int = 1,
    steps: int | None = None,
    plan: bool = False,
    unlike: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Run the experiments of a grid one after the other, or queue them; yields what they will take, then a line each.

    At the end, what each variant changes against the whole method. A first phase is run at once, since those that are
    queued begin with its weights. `plan`: say what would be done, do nothing. `unlike`: what these params have unlike
    the file, which is all that DVC sees.
    """
    chosen = recipes(params, grid, seeds, steps)
    yield from outlook(params, chosen)
    if plan:
        yield from (f"{recipe.name}{f', from {recipe.begins}' if recipe.begins else ''}" for recipe in chosen)
        return
    done = {result.name for result in measured()}
    for recipe in chosen:
        first = not recipe.row
        if (weights_of(recipe) is not None) if first else recipe.name in done:
            yield f"{recipe.name} is there already; to repeat it: dvc exp remove {recipe.name}"
            continue
        ready = _ready(recipe, params, unlike or {})
        arguments = ready.arguments(queue and not first, own_photographs(Path(params.photographs)))
        yield "dvc " + " ".join(arguments)
        if _dvc(arguments, capture=False).returncode:
            raise UserError(f"The experiment {recipe.name} failed.", "What DVC printed above says why; run it again.")
    if queue:
        yield "Start the queue: dvc queue start"
        return
    yield from compared(chosen)
    yield "See: spasemsr tables"


def _ready(recipe: Recipe, params: Params, unlike: Mapping[str, Any]) -> Recipe:
    """The recipe with what params.yaml does not say: where photographs and the weights to begin with are, `unlike`."""
    init = {}
    if recipe.begins:
        weights = weights_of(replace(recipe, name=recipe.begins))
        if weights is None:
            raise UserError(
                f"The weights of {recipe.begins} are not here.", f"dvc exp remove {recipe.begins}; run again."
            )
        init[train_setting(params.profile, recipe.method, "init")] = str(weights)
    return replace(recipe, changes={**unlike, **elsewhere(params.photographs), **recipe.changes, **init})


def weights_of(recipe: Recipe) -> Path | None:
    """The folder of weights that an experiment trained; None where there is no such experiment, or DVC lost them.

    It lies in the sample cache, named by the weights: an experiment that begins there is another one when they change.
    """
    root = default_root() / "begun"
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root) as folder:
        found = _fetched(recipe.name, layout.model_folder(recipe.method), Path(folder))
        if found is None:
            return None
        place = root / f"{recipe.method}-{weights_digest(found)[:16]}"
        if not place.exists():
            found.rename(place)
    return place


def compared(chosen: Sequence[Recipe]) -> Iterator[str]:
    """Every variant minus the whole method, seed by seed, of the experiments of a grid that are there."""
    for name in dict.fromkeys(recipe.method for recipe in chosen if recipe.row):
        rows: dict[str, dict[Any, ScoreTable]] = {}
        for recipe in chosen:
            if recipe.method == name and recipe.row and (table := _scores(recipe.name, name)):
                rows.setdefault(recipe.row, {})[recipe.changes.get("seed")] = table
        if len(rows) > 1:
            yield from paired.lines(rows, name)


def compare(before: Sequence[str], after: Sequence[str], method_name: str) -> Iterator[str]:
    """What experiments after change against those before, of which there are as many, one for each seed.

    Raises UserError for one that has no scores of the method, and for one that is named twice.
    """
    if twice := [name for name, times in Counter([*before, *after]).items() if times > 1]:
        raise UserError(f"Named twice: {', '.join(twice)}.", "Name each experiment once, another one on each side.")
    if len(before) != len(after):
        counts = f"{len(before)} before, {len(after)} after"
        raise UserError(f"Experiments are compared seed by seed: {counts}.", "Name as many on both sides.")
    rows: dict[str, dict[int, ScoreTable]] = {}
    for side in (before, after):
        found = {name: _scores(name, method_name) for name in side}
        if absent := [name for name, table in found.items() if table is None]:
            remedy = "The experiments there are: dvc exp list"
            raise UserError(f"There are no scores of {method_name} in {', '.join(absent)}.", remedy)
        rows[", ".join(side)] = {place: table for place, name in enumerate(side) if (table := found[name])}
    if len({table.keys_sha256 for tables in rows.values() for table in tables.values()}) > 1:
        raise UserError("These experiments scored different images.", "Compare experiments on the same data.")
    yield from paired.lines(rows, method_name)


def _scores(experiment: str, method_name: str) -> ScoreTable | None:
    """An experiment's scores of each evaluation image, None where there is no such experiment."""
    with TemporaryDirectory() as folder:
        found = _fetched(experiment, layout.scores_folder(method_name) / "per_image.csv", Path(folder))
        return read_per_image(found)[0] if found else None


def _fetched(experiment: str, out: Path, folder: Path) -> Path | None:
    """A copy of what an experiment made, in this folder; None where DVC does not have it."""
    place = folder / out.name
    found = _dvc(["get", ".", out.as_posix(), "--rev", experiment, "-o", str(place)])
    return place if found.returncode == 0 else None


def own_photographs(folder: Path) -> list[str]:
    """What of the folder of photographs an experiment must be given, because git does not keep it.

    DVC copies into what a checkout makes, and refuses a folder that is there: with git's README in it, entry by entry.
    """
    if not folder.is_dir() or elsewhere(folder) or folder.is_absolute():
        return []
    if not (folder / "README.md").exists():
        return [folder.as_posix()]
    return [path.as_posix() for path in sorted(folder.iterdir()) if path.name != "README.md"]


def elsewhere(photographs: str | Path) -> dict[str, str]:
    """The setting that names photographs outside the project absolutely: an experiment runs in another folder.

    Copied to where `../pics` leads from there, they would lie in the way of every later experiment.
    """
    place = Path(photographs)
    outside = not place.is_absolute() and not place.resolve().is_relative_to(Path.cwd().resolve())
    return {"photographs": str(place.resolve())} if outside else {}


def measured() -> list[Measured]:
    """The workspace and every finished experiment of the current commit; a name's last run counts."""
    answer = _dvc(["exp", "show", "--json"])
    if answer.returncode:
        last = (answer.stderr.strip() or "DVC said nothing").splitlines()[-1]
        raise UserError(f"The experiments cannot be read: {last}", "Run this in the project's folder, a git clone.")
    found: dict[str, Measured] = {}
    for row in json.loads(answer.stdout):
        runs = [(row.get("name") or row["rev"], row.get("data"))]
        for entry in row.get("experiments") or []:
            if (entry.get("executor") or {}).get("state", "success") != "success":
                continue  # queued, running or broken off: its metrics are those of the commit it began at
            runs += [(state.get("name") or state["rev"][:7], state.get("data")) for state in entry["revs"][:1]]
        for name, data in runs:
            if result := _measurement(name, data or {}):
                found.setdefault(name, result)
    return list(found.values())


def numbers() -> list[Number]:
    """Everything measured here, as cells of the paper's tables."""
    cells: list[Number] = []
    for run in _averaged(measured()):
        origin = f"{run.profile}, lambda {run.lambda_:g}, split val, params {run.rest}"
        origin += f", {len(run.seeds)} seeds" if len(run.seeds) > 1 else ""
        for name, means in run.means.items():
            for table, row in _places(name, run.variants):
                cells += [Number(table, row, "val", metric, value, origin) for metric, value in means.items()]
    # The workspace and an experiment of equal params fill the same cell: it is one measurement.
    cells = list({(cell.table, cell.method, cell.metric, cell.origin): cell for cell in cells}.values())
    return cells + cells_of(scored())


def scored() -> list[dict[str, Any]]:
    """What `spasemsr score --json` wrote into reports/scores."""
    return read_records(SCORES) if SCORES.is_dir() else []


def sweep_lines() -> list[str]:
    """The means of each whole method by lambda, over everything measured; nothing for fewer than two values."""
    lines: list[str] = []
    runs = _averaged(measured())
    for name in names():
        face = method(name)
        whole = [run for run in runs if name in run.means and _is_whole(name, run.variants[name])]
        rows = {run.lambda_: run.means[name] for run in whole if run.rest == whole[0].rest}
        if len(rows) < 2:
            continue
        metrics = list(dict.fromkeys(metric for means in rows.values() for metric in means))
        widths = {metric: max(10, len(metric) + 2) for metric in metrics}
        lines.append(f"Lambda sweep · {face.label}, full model, split val · MEASURED")
        lines.append("lambda  " + "".join(m.upper().rjust(widths[m]) for m in metrics))
        for value, means in sorted(rows.items()):
            cells = ((f"{means[m]:.4f}" if m in means else "").rjust(widths[m]) for m in metrics)
            lines.append(f"{value:<8g}" + "".join(cells))
        lines.append("")
    return lines


def _places(name: str, variants: Mapping[str, Variant | None]) -> list[tuple[str, str]]:
    """Table and row of a measured method; a baseline's row is filled by runs of whole methods only."""
    if name not in names():
        whole = all(_is_whole(own, variant) for own, variant in variants.items())
        return [(TABLE, label(name))] if whole and name != "hr" else []
    variant = variants.get(name)
    rows = [(table, variant.label) for table in variant.tables] if variant is not None else []
    if not _is_whole(name, variant):
        return rows
    compared = dict.fromkeys([TABLE, *list(method(name).tables)[:1]])  # that of all, and its own paper's
    return [*((table, method(name).label) for table in compared if table not in dict(rows)), *rows]


def _is_whole(name: str, variant: Variant | None) -> bool:
    """Whether a method was run as it is meant, nothing of it switched off."""
    variants = method(name).variants
    return not variants or variant == variants[0]


def _measurement(name: str, data: Mapping[str, Any]) -> Measured | None:
    """What a row of `dvc exp show` says, or None for one without params or metrics of ours."""
    params = ((data.get("params") or {}).get("params.yaml") or {}).get("data") or {}
    metrics = data.get("metrics") or {}
    means: dict[str, Mapping[str, float]] = {}
    for path, held in metrics.items():
        if path.startswith("reports/evaluate/"):
            means |= ((held or {}).get("data") or {}).get("val") or {}
    if not means or "profile" not in params:
        return None
    profile = params["profile"]
    trained = [own for own in names() if own in means]
    variants = {own: _variant(own, params.get(profile, {})) for own in trained}
    switched = [switch for own in trained for switch in switches(own)]
    active = {**params.get(profile, {}), **{part: params.get(part) for part in ("degradation", "photographs")}}
    active |= elsewhere(active["photographs"] or "")  # as `run` names them
    rest = fingerprint([profile, _without(active, (*switched, "dial"))])[:6]  # the dial changes no score
    lambda_ = float(params.get("lambda", 0.5))
    return Measured(name, variants, lambda_, profile, rest, means, (params.get("seed"),))


def _averaged(runs: Sequence[Measured]) -> list[Measured]:
    """One for all runs that differ in their seed alone, with the means over seeds."""
    groups: dict[tuple[Any, ...], dict[Any, Measured]] = {}
    for run in runs:
        group = groups.setdefault((*run.variants.items(), run.lambda_, run.profile, run.rest, *run.means), {})
        group.setdefault(run.seeds, run)  # the workspace and an experiment of equal params are one measurement
    return [_mean(list(group.values())) for group in groups.values()]


def _mean(runs: Sequence[Measured]) -> Measured:
    means = {
        name: {metric: fmean(run.means[name][metric] for run in runs if metric in run.means[name]) for metric in own}
        for name, own in runs[0].means.items()
    }
    return replace(runs[0], means=means, seeds=tuple(seed for run in runs for seed in run.seeds))


def _variant(name: str, profile: Mapping[str, Any]) -> Variant | None:
    """The row of the paper's tables that a method's params are; a switch that is not stated is the whole method's."""
    rows = method(name).variants
    values = [
        _at(profile, switch, whole)
        for switch, whole in zip(switches(name), rows[0].values if rows else (), strict=True)
    ]
    return next((row for row in rows if list(row.values) == values), None)


def _without(tree: Mapping[str, Any], dotted: Sequence[str]) -> dict[str, Any]:
    """A nested mapping without these keys."""
    kept = {}
    for key, value in tree.items():
        below = [name.removeprefix(f"{key}.") for name in dotted if name.startswith(f"{key}.")]
        if key not in dotted:
            kept[key] = _without(value, below) if below and isinstance(value, Mapping) else value
    return kept


def _at(tree: Mapping[str, Any], dotted: str, otherwise: Any) -> Any:
    for part in dotted.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return otherwise
        tree = tree[part]
    return tree


def _dvc(arguments: Sequence[str], capture: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=capture, text=True)
