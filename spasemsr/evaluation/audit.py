"""The guidance audit: what each condition of a method is worth, measured by removing or replacing it.

Each condition is set to a state (see `conditions.py`) on every image and seed, everything else the same; what is kept
are differences to the same image and seed under its own conditions. A condition the method does not have, or that says
nothing of an image, makes no row.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spasemsr.backends.extractors.filter_bank import texture_decibels
from spasemsr.backends.extractors.texture_words import TEXTURES, opposite
from spasemsr.data.dataset import Batch, Objects
from spasemsr.evaluation.conditions import CONDITIONS, STATES, Condition, State, in_state, retagged
from spasemsr.evaluation.findings import CHANGE, DIGITS
from spasemsr.evaluation.intervals import interval, photograph_of, sign_flip_p
from spasemsr.evaluation.metrics import Metric, MetricUndefined
from spasemsr.methods.truth import found_again
from spasemsr.pixels import ImageU8

CHANGES = ("inside", "outside", "inside_db", "outside_db")  # of an edit: grey levels, decibels
Restore = Callable[[Sequence[Batch], int], list[ImageU8]]  # batches of one, the noise seed


@dataclass(frozen=True)
class Case:
    """One image: its conditions, those of another image, and its own as found on hr where some are."""

    key: str
    batch: Batch
    other: Batch
    truth: Batch | None
    hr: ImageU8


def audit(
    cases: Sequence[Case],
    conditions: frozenset[str],
    metrics: Sequence[Metric],
    restore: Restore,
    seeds: Sequence[int],
    condition_features: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """All rows, JSON-ready, means over images of means over seeds, each with its interval over photographs.

    `states`: condition, state, images, photographs, and by metric the difference to the image's own state; CHANGE is
    among them. A metric's row has the p of a sign-flip test.
    `seed`: the same for another noise seed, what a change has to be compared with; null for a single seed. `edit`: the
    best object renamed, change inside its box and outside. `grounding`: whether hr and its restored copy are said to
    show the same, see `agreement`; null for a method without tags. `not_used`: the conditions it does not have.
    `condition_features` names the features of a condition that consists of some.
    """
    own = {
        (case.key, seed): picture
        for seed in seeds
        for case, picture in zip(cases, restore([case.batch for case in cases], seed), strict=True)
    }
    rows = []
    for condition in CONDITIONS:
        for state in STATES[1:] if condition in conditions else ():
            edited = {case.key: _edited(case, condition, state, condition_features) for case in cases}
            batches = {key: batch for key, batch in edited.items() if batch is not None}
            results = {
                (key, seed): picture
                for seed in seeds
                for key, picture in zip(batches, restore(list(batches.values()), seed), strict=True)
            }
            found = [
                (case, [_differences(results[at], own[at], case.hr, metrics) for at in ((case.key, s) for s in seeds)])
                for case in cases
                if case.key in batches
            ]
            if found:
                rows.append({"condition": condition, "state": state, **_summary(found, condition, state)})
    again = [
        (case, [_differences(own[case.key, seed], own[case.key, seeds[0]], case.hr, metrics) for seed in seeds[1:]])
        for case in cases
    ]
    return {
        "states": rows,
        "seed": _summary(again, "seed", "other") if len(seeds) > 1 else None,
        "edit": _edit(cases, restore, own, seeds) if "tags" in conditions else None,
        "grounding": agreement(cases) if "tags" in conditions else None,
        "not_used": [condition for condition in CONDITIONS if condition not in conditions],
    }


def agreement(cases: Sequence[Case]) -> dict[str, int] | None:
    """How many objects grounding finds on hr, and how many again at their place and by their name on what was restored.

    None where hr was not grounded.
    """
    pairs = [(case.truth.objects[0], case.batch.objects[0]) for case in cases if case.truth is not None]
    if not pairs:
        return None
    placed, named = np.sum([found_again(there, here) for there, here in pairs], axis=0).tolist()
    objects = sum(len(there.tags) for there, _ in pairs)
    return {"images": len(pairs), "objects": objects, "placed": placed, "named": named}


def most(images: int, seeds: int, conditions: frozenset[str]) -> int:
    """An upper bound of how often `audit` calls `restore`, for a progress line."""
    states = sum(len(STATES) - 1 for condition in CONDITIONS if condition in conditions)
    return images * seeds * (1 + states + ("tags" in conditions))


def means(found: Mapping[str, Any]) -> dict[str, Any]:
    """The means of an audit without intervals, as `dvc metrics` shows them: by condition, state and metric."""
    by_condition: dict[str, Any] = {}
    for row in found["states"]:
        values = {name: each["mean"] for name, each in row["differences"].items()}
        by_condition.setdefault(row["condition"], {})[row["state"]] = values
    ratios = found.get("attention") or {}
    rest = {"attention": _rounded(float(np.mean(list(ratios.values()))))} if ratios else {}
    edit = {name: value for name, value in (found["edit"] or {}).items() if name != "bounds"}
    counts = {"edit": edit, "grounding": found["grounding"] or {}, "probe": found.get("probe", {})}
    return {"conditions": by_condition, **counts, **rest}


def _edited(case: Case, condition: Condition, state: State, names: Mapping[str, Sequence[str]]) -> Batch | None:
    """The batch of a state, or None where that says the same as the image's own."""
    batch = in_state(case.batch, condition, state, case.other, case.truth, names)
    return None if batch is None or _said(batch) == _said(case.batch) else batch


def _said(batch: Batch) -> list[Any]:
    def plain(objects: Objects) -> list[Any]:
        return [objects.tags, objects.boxes.tolist() if objects.tags and objects.located else None]

    features = {name: value.numpy().tobytes() for name, value in batch.features.items()}
    return [*map(plain, batch.objects), batch.captions, features]


def _differences(result: ImageU8, own: ImageU8, hr: ImageU8, metrics: Sequence[Metric]) -> dict[str, float]:
    """By metric, result minus own; a metric without a value on one of them is absent."""
    found = {CHANGE: float(np.abs(result.astype(np.int16) - own).mean())}
    for metric in metrics:
        try:
            found[metric.name] = metric.compute(result, hr) - metric.compute(own, hr)
        except MetricUndefined:
            continue
    return found


def _summary(found: Sequence[tuple[Case, list[dict[str, float]]]], *names: str) -> dict[str, Any]:
    """Images, photographs, and by metric mean, low, high and p; bounds and p are null for a single photograph."""
    by_metric: dict[str, dict[str, float]] = {}
    for case, per_seed in found:
        for name in per_seed[0]:
            values = [differences[name] for differences in per_seed if name in differences]
            by_metric.setdefault(name, {})[case.key] = float(np.mean(values))
    rows = {}
    for name, by_key in by_metric.items():
        low, high = interval(by_key, 0, "audit", *names, name) or (None, None)
        mean = float(np.mean(list(by_key.values())))
        rows[name] = {"mean": _rounded(mean), "low": _rounded(low), "high": _rounded(high)}
        if name != CHANGE:  # which is never negative
            rows[name]["p"] = _rounded(sign_flip_p(by_key, 0, "audit", *names, name))
    photographs = len({photograph_of(case.key) for case, _ in found})
    return {"images": len(found), "photographs": photographs, "differences": rows}


def _edit(
    cases: Sequence[Case], restore: Restore, own: Mapping[tuple[str, int], ImageU8], seeds: Sequence[int]
) -> dict[str, Any] | None:
    """The best object whose box leaves room around it gets another name: change inside and outside its box.

    In grey levels, and in decibels of texture energy by the filters of the texture metric, with the intervals of these.
    """
    renamed = [(case, batch, box) for case in cases for batch, box in _renamed(case)]
    if not renamed:
        return None
    by_case: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        results = restore([batch for _, batch, _ in renamed], seed)
        for (case, _, box), result in zip(renamed, results, strict=True):
            by_case.setdefault(case.key, []).append(_change(result, own[case.key, seed], box))
    found = {
        name: {key: float(np.mean([each[name] for each in every])) for key, every in by_case.items()}
        for name in CHANGES
    }
    means = {name: _rounded(float(np.mean(list(values.values())))) for name, values in found.items()}
    bounds = {name: interval(found[name], 0, "audit", "edit", name) for name in CHANGES if name.endswith("_db")}
    return {
        "images": len(by_case),
        **means,
        "bounds": {name: None if each is None else [_rounded(side) for side in each] for name, each in bounds.items()},
    }


def _change(result: ImageU8, before: ImageU8, box: np.ndarray) -> dict[str, float]:
    """Mean absolute change inside a box, x0 y0 x1 y1 in [0, 1], and outside: grey levels, decibels.

    Decibels are read with the other side as it was before: filters reach over the edge of a box, and what changed on
    one side of it is no change of the other.
    """
    grey = np.abs(result.astype(np.int16) - before).mean(axis=2)
    within = _within(box, grey.shape)
    found = {"inside": grey[within].mean(), "outside": grey[~within].mean()}
    energies = texture_decibels(before)
    for name, side in (("inside_db", within), ("outside_db", ~within)):
        decibels = np.abs(texture_decibels(np.where(side[..., None], result, before)) - energies).mean(axis=0)
        cells = _within(box, decibels.shape)
        found[name] = decibels[cells if side is within else ~cells].mean()
    return found


def _within(box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What a box covers of a grid of (height, width), bool, at least one of it."""
    height, width = shape
    covered = np.zeros(shape, bool)
    x0, y0, x1, y1 = np.round(box * (width, height, width, height)).astype(int)
    covered[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
    return covered


def _renamed(case: Case) -> Iterator[tuple[Batch, np.ndarray]]:
    """The batch with one object renamed, and that object's box; nothing where nothing can be renamed.

    An area of like texture if there is one, said to be the opposite of what it is, as a person would on the page; else
    a thing, called as one of the other picture's.
    """
    (objects,), (others,) = case.batch.objects, case.other.objects
    foreign = [name for name in others.tags if name not in objects.tags and name not in TEXTURES]
    order = sorted(range(len(objects.tags)), key=lambda index: objects.tags[index] not in TEXTURES)
    for index in order:
        (x0, y0, x1, y1), tag = objects.boxes[index], objects.tags[index]
        new = [opposite(tag)] if tag in TEXTURES else foreign
        if new and 0.01 <= (x1 - x0) * (y1 - y0) <= 0.8:
            tags = [*objects.tags[:index], new[0], *objects.tags[index + 1 :]]
            edited = retagged(case.batch, tags)
            if tag in TEXTURES:
                edited = replace(case.batch, said=edited.objects)
            yield edited, objects.boxes[index]
            return


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The audit as it is printed."""
    for row in found["states"]:
        scores = "  ".join(f"{name} {each['mean']:+.4f}" for name, each in row["differences"].items())
        yield f"{row['condition']:<9}{row['state']:<7}{row['images']:>3} images  {scores}"
    if found["edit"]:
        edit = found["edit"]
        decibels = {
            side: f"{edit[side]} dB" + ("" if bounds is None else " [{}, {}]".format(*bounds))
            for side, bounds in edit["bounds"].items()
        }
        yield (
            f"one object renamed: {edit['inside']} grey levels and {decibels['inside_db']} of change inside its box, "
            f"{edit['outside']} and {decibels['outside_db']} outside"
        )
    if found["grounding"]:
        seen = found["grounding"]
        yield (
            f"{seen['objects']} objects on hr of {seen['images']} images: {seen['placed']} with a box at the same "
            f"place on the restored copy, {seen['named']} by the same name"
        )
    if found["not_used"]:
        yield f"not used: {', '.join(found['not_used'])}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)
