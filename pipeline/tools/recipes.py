"""Which experiments a grid is made of: the ablations of each method's paper, and the sweep of lambda.

An ablation can show something only where training begins with weights that never saw the part under test. A method
that says how those are trained (`Face.first`) gets a common first phase from random weights, every part off; each
variant then trains from there. The other methods train each variant from what params.yaml says.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import sqrt
from typing import Any

from pipeline.planning.hardware import hardware
from pipeline.planning.plan import make_plan
from spasemsr.config import Params, ProfileName
from spasemsr.errors import UserError
from spasemsr.methods import method

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Phases:
    """What differs from params.yaml's `train` in a common first phase, and in each variant's training after it.

    `seconds` are what a step took on one CPU core that had nothing else to do; `deviation`, in dB, is that of PSNR's
    difference between two trainings from one image to the next. None where nobody measured it.
    """

    first: Mapping[str, Any]
    then: Mapping[str, Any]
    seconds: float | None = None
    deviation: float | None = None


PHASES: dict[ProfileName, Phases] = {
    "embedded": Phases(  # rates that nano weights were trained with: data/pretrained/nano/README.md
        {"init": None, "steps": 2000, "lr": 0.0015, "warmup_steps": 100},
        {"steps": 2000, "lr": 0.001, "warmup_steps": 50, "cooldown_steps": 1000},
        seconds=0.9,
        deviation=0.075,
    ),
    "probe": Phases(
        {"init": None, "steps": 150, "cooldown_steps": 0},
        {"steps": 300, "cooldown_steps": 75},
        seconds=0.8,
        deviation=0.5,
    ),
    "foundation": Phases({"init": None, "steps": 20_000}, {}),
}


@dataclass(frozen=True)
class Recipe:
    """One experiment of `method`: its name, what it changes in `params.yaml`, and the stage it ends at.

    `row` is which variant it measures, with one of several seeds, "" for a first phase; `begins` names the experiment
    whose weights it starts from, "" for what params.yaml says.
    """

    name: str
    changes: Mapping[str, Any]
    method: str
    row: str = ""
    begins: str = ""
    stage: str = "evaluate"  # page and dial are for the variants a person chooses

    def arguments(self, queue: bool, travelling: Sequence[str] = ()) -> list[str]:
        """Of `dvc`; `travelling` are paths that git does not know and the experiment needs in its folder."""
        settings = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.changes.items()]
        where = "--queue" if queue else "--temp"
        pairs = [part for setting in settings for part in ("-S", setting)]
        copied = [part for path in travelling for part in ("-C", path)]
        return ["exp", "run", where, *copied, "-n", self.name, *pairs, self.stage]


@dataclass(frozen=True)
class _Row:
    """What is trained in a row: what it changes, and which of that its first phase is trained under too."""

    label: str
    changes: Mapping[str, Any]
    begun: Mapping[str, Any] = field(default_factory=dict)


def recipes(params: Params, grid: str, seeds: int = 1, steps: int | None = None) -> list[Recipe]:
    """The experiments of a grid, in the order they should run.

    `tables` are the variants of each method, `readings` the other ways to read its paper, each beside the whole method,
    `lambda` a sweep. `seeds` trainings of a variant differ in what is drawn: degradations, order of samples, noise and
    drops, and random weights where there is no first phase. `steps` is the length of each, where there is one. Raises
    UserError for another grid, and for a sweep of lambda or for readings where no method that is listed has them.
    """
    match grid:
        case "tables":
            rows = {name: list(_rows(params, name)) for name in params.methods}
        case "readings":
            rows = {name: list(_readings(params, name)) for name in params.methods if method(name).second_readings}
            if not rows:
                listed = ", ".join(params.methods)
                raise UserError(f"There is one reading of {listed}.", "Name another method in params.yaml's `methods`.")
        case "lambda":
            rows = {name: list(_lambdas(params, name)) for name in params.methods if method(name).first is not None}
            if not rows:
                listed = ", ".join(params.methods)
                raise UserError(
                    f"lambda weights no loss of {listed}.", "Name another method in params.yaml's `methods`."
                )
        case _:
            raise UserError(f"No grid {grid!r}.", "Choose from: tables, readings, lambda")
    return [recipe for name, own in rows.items() for recipe in _trained(params, name, own, seeds, steps)]


def switches(name: str) -> tuple[str, ...]:
    """What a method's variants set, as keys of a profile."""
    return tuple(f"methods.{name}.{switch}" for switch in method(name).switches)


def train_setting(profile: str, name: str, key: str) -> str:
    """The param of one method's own training, as `-S` takes one that may not be stated yet."""
    return _setting(profile, name, f"train.{key}")


def _setting(profile: str, name: str, key: str) -> str:
    """A param of a method's section that params.yaml may leave out."""
    return f"++{profile}.methods.{name}.{key}"


def _trained(params: Params, name: str, rows: Sequence[_Row], seeds: int, steps: int | None) -> Iterator[Recipe]:
    """A method's first phases, if it has any, and these rows, all of them with one seed before the next."""
    profile, face, phases = params.profile, method(name), PHASES[params.profile]
    place, begins, ending, then = f"{profile}-{name}", dict[str, str](), "", {}
    if face.first is not None:
        first = {train_setting(profile, name, key): value for key, value in phases.first.items()}
        for begun in {_said(row.begun): row.begun for row in rows}.values():
            begins[_said(begun)] = own = f"{place}-first{_said(begun)}-{phases.first['steps']}"
            changes = {**_set(profile, name, face.first), **begun, **first}
            yield Recipe(own, changes, name, stage=f"train@{name}")
        lasting = _lasting(phases.then, steps)
        then = {train_setting(profile, name, key): value for key, value in lasting.items()}
        ending = f"-{lasting.get('steps', params.active.train_of(name).steps)}"
    for index in range(seeds):
        drawn = {"seed": params.seed + index} if index else {}
        again = f"-seed{index + 1}" if index else ""
        for row in rows:
            changes = {**row.changes, **then, **drawn}
            begin = begins.get(_said(row.begun), "")
            yield Recipe(f"{place}-{_slug(row.label)}{ending}{again}", changes, name, row.label, begin)


def _said(begun: Mapping[str, Any]) -> str:
    """What a first phase's name says of the settings it is trained under; nothing of the common one."""
    return "".join(f"-{_slug(key.rpartition('.model.')[2])}-{_slug(str(value))}" for key, value in begun.items())


def _lambdas(params: Params, name: str) -> Iterator[_Row]:
    """The whole method under each lambda."""
    whole = _set(params.profile, name, method(name).variants[0].values)
    yield from (_Row(f"lambda {value:g}", {**whole, "lambda": value}) for value in LAMBDAS)


def _readings(params: Params, name: str) -> Iterator[_Row]:
    """The whole method, then rows of its tables under another reading."""
    face, profile = method(name), params.profile
    yield _Row(face.variants[0].label, _set(profile, name, face.variants[0].values))
    for reading in face.second_readings:
        settings = {_setting(profile, name, key): value for key, value in reading.settings.items()}
        changes = {**_set(profile, name, reading.variant.values), **settings}
        yield _Row(reading.label, changes, settings if reading.begun else {})


def _rows(params: Params, name: str) -> Iterator[_Row]:
    """Rows of a method's ablations: the variants of its paper, then the whole method under its other readings."""
    face, profile = method(name), params.profile
    for variant in face.variants:
        yield _Row(variant.label, _set(profile, name, variant.values))
    section = params.active.methods[name]
    for setting, values in face.readings.items():
        own = reduce(getattr, setting.split("."), section)
        for value in values:
            if value != own:
                whole = face.variants[0]
                label = f"{whole.label}, {setting.rpartition('.')[2]} {value}"
                changes = {**_set(profile, name, whole.values), f"{profile}.methods.{name}.{setting}": value}
                yield _Row(label, changes)


def _set(profile: str, name: str, values: Sequence[Any]) -> dict[str, Any]:
    """These values of a method's switches, as params."""
    return {f"{profile}.{switch}": value for switch, value in zip(switches(name), values, strict=True)}


def _lasting(training: Mapping[str, Any], steps: int | None) -> dict[str, Any]:
    """The same training with so many steps; the share of them that cools down stays."""
    if steps is None:
        return dict(training)
    changed = {**training, "steps": steps}
    if "cooldown_steps" in training:
        changed["cooldown_steps"] = round(steps * training["cooldown_steps"] / training["steps"])
    return changed


def _slug(label: str) -> str:
    """A label as git takes it in a name."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


def outlook(params: Params, chosen: Sequence[Recipe]) -> Iterator[str]:
    """What these experiments will take, and what they can tell apart; said before the first one starts."""
    plan, phases = make_plan(params, params.profile, hardware()), PHASES[params.profile]
    hours, origins = 0.0, set[str]()
    for recipe in chosen:
        for cost in (cost for cost in plan.methods if cost.name == recipe.method):
            steps = recipe.changes.get(train_setting(params.profile, cost.name, "steps"), cost.train.steps)
            trained, origin = steps / cost.train.steps * cost.train_hours, cost.rate[1].partition(":")[0]
            timed = phases.seconds is not None and plan.hardware.gpu is None and method(cost.name).first is not None
            if origin == "estimated" and timed:
                trained, origin = steps * (phases.seconds or 0.0) / 3600, "recorded elsewhere"
            hours += trained + (0.0 if recipe.stage.startswith("train@") else cost.evaluate_hours(plan.counts))
            origins.add(origin)
    device = "a GPU" if plan.hardware.gpu is not None else "a CPU core"
    yield f"{len(chosen)} experiments, about {hours:.1f} hours of {device} ({', '.join(sorted(origins))})"
    count, told = plan.counts.evaluation, "which differences they tell apart was not measured"
    if phases.deviation is not None:
        resolved = 1.96 * phases.deviation / sqrt(count)
        told = f"trainings {resolved:.2g} dB of PSNR apart can be told apart (deviation {phases.deviation} dB an image)"
    yield f"{count} images are scored: {told}; what another seed changes is measured with --seeds 2 or more"
