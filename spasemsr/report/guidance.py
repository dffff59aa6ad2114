"""What guidance does, in words and tables: the findings of stage audit as the page shows them.

A difference of a score is called clear by the rule of the whole page (`view.verdict`); where none is, the page says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from spasemsr.evaluation.findings import CHANGE, DIGITS, PROBE_ROWS
from spasemsr.evaluation.metrics import Metric
from spasemsr.report.data import ReportData
from spasemsr.report.figures import attention
from spasemsr.report.view import bounds, listed, signed, verdict

STATES = {
    ("tags", "none"): "no tags",
    ("tags", "other"): "another image's tags",
    ("tags", "truth"): "the tags and boxes of hr",
    ("boxes", "none"): "no boxes",
    ("boxes", "other"): "another image's boxes",
    ("caption", "none"): "no caption",
    ("caption", "other"): "another image's caption",
    ("maps", "none"): "no maps",
    ("maps", "other"): "another image's maps",
    ("maps", "truth"): "the maps of hr",
    ("soft", "none"): "no soft prompt",
    ("soft", "other"): "another image's soft prompt",
    ("soft", "truth"): "the soft prompt of hr",
}
_FEWEST = 6  # photographs: of fewer the p of a sign-flip test is never below 0.05, 2 / 2^5 at least
_BINDS = 2.0  # attention inside over outside; from here on the report says that words know their place


def guidance(data: ReportData) -> list[dict[str, Any]]:
    """A part per audited method: its name, sentences, a plot of attention if it has any, and the table of states."""
    parts = []
    for method, found in data.audits.items():
        measured = {name for row in found["states"] for name in row["differences"]}
        metrics = [metric for metric in data.metrics if metric.name in measured]
        parts.append(
            {
                "label": data.labels[method],
                "sentences": list(sentences(found, metrics)),
                "metrics": metrics,
                "attention": attention(ratios, method) if (ratios := found.get("attention")) else None,
                "lines": [_line(row, metrics) for row in found["states"]],
            }
        )
    return parts


def sentences(found: Mapping[str, Any], metrics: Sequence[Metric]) -> Iterator[str]:
    """An audit in words; `metrics` are those to speak of."""
    if found["states"]:
        images, photographs = (max(row[what] for row in found["states"]) for what in ("images", "photographs"))
        few = "; no difference of a score counts as clear on so few" if photographs < _FEWEST else ""
        yield f"Asked of {_count(images, 'image')} of {_count(photographs, 'photograph')}{few}."
    for row in found["states"]:
        if row["state"] == "none":
            yield _effect(row, metrics)
    if found.get("seed"):
        change = found["seed"]["differences"][CHANGE]["mean"]
        yield f"Other noise alone changes a result by {change:.2f} grey levels."
    if found["edit"]:
        yield _edit(found["edit"])
    if seen := found["grounding"]:
        yield (
            f"Grounding sees the restored copy: of {seen['objects']} objects that it finds on the ground truth of "
            f"{_count(seen['images'], 'image')}, {seen['placed']} are found on the copy at the same place, and "
            f"{seen['named']} of these by the same name."
        )
    ratios = list(found.get("attention", {}).values())
    if ratios:
        middle = median(ratios)  # one layer can reach 50 where all others say nothing
        bound = "words know their place" if middle >= _BINDS else "words do not know their place"
        yield (
            f"Cells attend to an object's words {_times(middle)} times as strongly inside its box as outside in the "
            f"middle one of {len(ratios)} layers, from {_times(min(ratios))} to {_times(max(ratios))}: {bound}. That "
            "is where the model looks, not what it makes of it."
        )
    if found["not_used"]:
        yield f"Not used by this method: {listed([_named(condition) for condition in found['not_used']])}."


def _effect(row: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    """What taking one condition away does: each score that clearly changes, then those that do not."""
    change = row["differences"][CHANGE]["mean"]
    clear, unclear = [], []
    for metric in metrics:
        each = row["differences"].get(metric.name)
        if each is None:
            continue
        if said := verdict(each, metric):
            clear.append(f"{metric.label} clearly {said}, by {abs(each['mean']):.{_digits(metric)}f}")
        else:
            unclear.append(metric.label)
    if unclear:
        clear.append(f"{listed(unclear)} not clearly different")
    scores = f": {'; '.join(clear)}" if clear else ""
    return f"Taking away the {_named(row['condition'])} changes a result by {change:.2f} grey levels{scores}."


def _edit(edit: Mapping[str, Any]) -> str:
    """What renaming one object does."""
    inside, outside = edit["inside"], edit["outside"]
    if outside < 0.005:
        far = "less than 0.01 outside"
    else:
        far = f"{outside:.2f} outside, {inside / outside:.1f} times as much inside its box as outside"
    return (
        f"A person who renames one object (asked of {_count(edit['images'], 'image')}; an area of texture is given its "
        f"opposite's name) changes the result by {inside:.2f} grey levels inside its box and {far}; the energy of "
        f"textures by {edit['inside_db']:.1f} dB inside and {edit['outside_db']:.1f} dB outside."
    )


def _named(condition: str) -> str:
    return {"soft": "soft prompt"}.get(condition, condition)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def _digits(metric: Metric) -> int:
    """One more than a score has, since differences are small, as far as audit.json has them."""
    return min(metric.decimals + 1, DIGITS)


def _line(row: Mapping[str, Any], metrics: list[Metric]) -> dict[str, Any]:
    """A line of the table of states: change in grey levels, then a cell per metric."""
    cells = []
    for metric in metrics:
        each = row["differences"].get(metric.name)
        if each is None:
            cells.append({"mean": "–", "bounds": "", "verdict": ""})
            continue
        mean, between = signed(each["mean"], _digits(metric)), bounds(each, _digits(metric))
        cells.append({"mean": mean, "bounds": between, "verdict": verdict(each, metric)})
    conditions = STATES[row["condition"], row["state"]]
    return {
        "conditions": conditions,
        "change": f"{row['differences'][CHANGE]['mean']:.2f}",
        "cells": cells,
        "n": row["images"],
    }


def probe(data: ReportData) -> list[dict[str, Any]]:
    """The probe's table, all audited methods in one: shares in percent, with what chance gives below them."""
    lines = []
    for method, found in data.audits.items():
        for name, row in found.get("probe", {}).items():
            scene = f"{row['place_of_kind_by_chance']:.0%} among the scene's own"
            lines.append(
                {
                    "method": data.labels[method],
                    "conditions": PROBE_ROWS[name][0],
                    "cells": [
                        {"mean": f"{row['place']:.1%}", "bounds": f"by chance {row['place_by_chance']:.0%}, {scene}"},
                        {"mean": f"{row['kind']:.1%}", "bounds": f"by chance {row['kind_by_chance']:.0%}"},
                        {"mean": f"{row['level']:.1%}", "bounds": f"by chance {row['level_by_chance']:.0%}"},
                        {"mean": f"{row['psnr']:.2f}", "bounds": ""},
                    ],
                    "n": row["regions"],
                }
            )
    return lines
