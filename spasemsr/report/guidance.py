"""What guidance does, in words and tables: the findings of stage audit as the page shows them.

Only a difference whose 95 % interval excludes zero is called an effect; where there is none, the page says that.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from spasemsr.evaluation.findings import CHANGE, PROBE_ROWS
from spasemsr.evaluation.metrics import Metric
from spasemsr.report.data import ReportData
from spasemsr.report.figures import attention

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
    for row in found["states"]:
        if row["state"] == "none":
            yield _effect(row, metrics)
    if found.get("seed"):
        change = found["seed"]["differences"][CHANGE]["mean"]
        yield f"Other noise alone changes a result by {change:.2f} grey levels."
    if found["edit"]:
        inside, outside = found["edit"]["inside"], found["edit"]["outside"]
        often = f"{inside / outside:.1f} times as much inside its box as outside" if outside else "inside its box alone"
        yield (
            f"A person who renames one object changes the result by {inside:.2f} grey levels inside its box and "
            f"{outside:.2f} outside: {often}; the energy of textures by {found['edit']['inside_db']:.1f} dB and "
            f"{found['edit']['outside_db']:.1f} dB."
        )
    if seen := found["grounding"]:
        yield (
            f"Grounding looks at the restored copy: of {seen['objects']} objects it finds on the ground truth of "
            f"{seen['images']} images, {seen['placed']} have a box at the same place there, and {seen['named']} of "
            "these the same name."
        )
    ratios = list(found.get("attention", {}).values())
    if ratios:
        middle = median(ratios)  # one layer can reach 50 where all others say nothing
        verdict = "words know their place" if middle >= _BINDS else "words do not know their place"
        yield (
            f"Cells attend to an object's words {middle:.2f} times as strongly inside its box as outside in the middle "
            f"one of {len(ratios)} layers, from {min(ratios):.2f} to {max(ratios):.2f}: {verdict}."
        )
    if found["not_used"]:
        yield f"Not used by this method: {', '.join(found['not_used'])}."


def _effect(row: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    """What taking one condition away does."""
    change = row["differences"][CHANGE]["mean"]
    parts, clear = [], False
    for metric in metrics:
        each = row["differences"].get(metric.name)
        if each is None:
            continue
        parts.append(f"{metric.label} by {each['mean']:+.{metric.decimals + 1}f}")
        clear = clear or (each["low"] is not None and (each["low"] > 0 or each["high"] < 0))
    scores = f" and {', '.join(parts)}" if parts else ""
    verdict = "clearly" if clear else "not clearly different from nothing"
    return f"Taking away the {row['condition']} changes a result by {change:.2f} grey levels{scores}: {verdict}."


def _line(row: Mapping[str, Any], metrics: list[Metric]) -> dict[str, Any]:
    """A line of the table of states: change in grey levels, then a cell per metric."""
    cells = []
    for metric in metrics:
        each = row["differences"].get(metric.name)
        if each is None:
            cells.append({"mean": "–", "bounds": ""})
            continue
        low, high, digits = each["low"], each["high"], metric.decimals + 1
        bounds = "" if low is None else f"{low:+.{digits}f} to {high:+.{digits}f}"
        cells.append({"mean": f"{each['mean']:+.{digits}f}", "bounds": bounds})
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
