"""What the report says in words, tables and plots: ReportData -> plain values that the template prints.

Numbers appear with the digits of their metric; a comparison is called better or worse only where its 95 % interval
excludes zero and its p is below 0.05, and unclear otherwise.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from spasemsr.evaluation.intervals import photograph_of
from spasemsr.evaluation.maps import CORRELATION, DEVIATION, LR_RESIDUAL, means
from spasemsr.evaluation.metrics import Metric
from spasemsr.evaluation.pareto import pareto_front
from spasemsr.report import figures
from spasemsr.report.data import Example, ReportData


def lede(data: ReportData) -> list[str]:
    """What was measured, in sentences: the set, then how the project's method compares with each baseline."""
    sentences = []
    for table in data.tables:
        photographs = len({photograph_of(key) for key in table.keys})
        patches = f"{len(table.keys)} {'patch' if len(table.keys) == 1 else 'patches'}"
        of = f"{photographs} {'photograph' if photographs == 1 else 'photographs'}"
        sentences.append(f"Measured on {patches} of {of}, split {table.split}.")
        for part in differences(data):
            for line in part["lines"]:
                if part["split"] == table.split and line["method"] == data.ours.name:
                    sentences.append(
                        _compared(data.labels[line["method"]], data.labels[line["baseline"]], line["cells"])
                    )
    return sentences


def _compared(method: str, baseline: str, cells: Sequence[Mapping[str, Any]]) -> str:
    """One sentence from the verdicts of a comparison."""
    words = {"better": "better in", "worse": "worse in", "unclear": "not clearly different in"}
    parts = []
    for verdict, phrase in words.items():
        metrics = [cell["metric"] for cell in cells if cell["verdict"] == verdict]
        if metrics:
            parts.append(f"{phrase} {listed(metrics)}")
    return f"Against {baseline}, {method} is {', '.join(parts)}."


def summary(data: ReportData) -> list[dict[str, Any]]:
    """One table per split: a line per method, a cell per metric with mean, interval and whether it is the best."""
    labels, found = data.labels, []
    for table in data.tables:
        rows = {(r["method"], r["metric"]): r for r in data.summary["rows"] if r["split"] == table.split}
        metrics = [metric for metric in data.metrics if metric.name in table.metrics]
        best: dict[str, float] = {}
        for metric in metrics:
            means = [rows[m, metric.name]["mean"] for m in table.methods if m != "hr" and (m, metric.name) in rows]
            means = [mean for mean in means if mean is not None]
            if len(means) > 1:
                best[metric.name] = max(means) if metric.higher_is_better else min(means)
        lines = []
        for method in [*(m for m in table.methods if m != "hr"), *(m for m in table.methods if m == "hr")]:
            cells = []
            for metric in metrics:
                row = rows.get((method, metric.name))
                if row is None or row["mean"] is None:
                    cells.append({"mean": "–", "bounds": "", "best": False})
                    continue
                bounds = "" if row["low"] is None else f"{digits(row['low'], metric)}–{digits(row['high'], metric)}"
                is_best = method != "hr" and row["mean"] == best.get(metric.name)
                cells.append({"mean": digits(row["mean"], metric), "bounds": bounds, "best": is_best})
            counts = {rows[method, metric.name]["n"] for metric in metrics if (method, metric.name) in rows}
            shown_n = " / ".join(str(count) for count in sorted(counts))
            lines.append({"method": method, "label": labels[method], "cells": cells, "n": shown_n})
        found.append({"split": table.split, "metrics": metrics, "lines": lines})
    return found


def differences(data: ReportData) -> list[dict[str, Any]]:
    """Per split, a line for each comparison of the project's methods with what is listed after them, a cell per metric
    with the difference, its interval and the verdict in a word.
    """
    labels, projects = data.labels, {row.name for row in data.methods if not row.baseline}
    found = []
    for table in data.tables:
        rows = {
            (row["method"], row["baseline"], row["metric"]): row
            for row in data.summary["differences"]
            if row["split"] == table.split and row["method"] in projects and row["baseline"] != "hr"
        }
        metrics = [metric for metric in data.metrics if metric.name in table.metrics]
        lines = [
            {
                "method": method,
                "baseline": baseline,
                "pair": f"{labels[method]} − {labels[baseline]}",
                "cells": [_difference(rows.get((method, baseline, metric.name)), metric) for metric in metrics],
            }
            for method, baseline in dict.fromkeys((method, baseline) for method, baseline, _ in rows)
        ]
        if lines:
            found.append({"split": table.split, "metrics": metrics, "lines": lines})
    return found


def _difference(row: Mapping[str, Any] | None, metric: Metric) -> dict[str, str]:
    """One cell of the differences; all texts are empty where there is nothing to compare."""
    if row is None:
        return {"metric": metric.label, "mean": "–", "bounds": "", "p": "", "verdict": ""}
    return {
        "metric": metric.label,
        "mean": signed(row["mean"], metric.decimals),
        "bounds": bounds(row, metric.decimals),
        "p": ""
        if row["p"] is None
        else f"p\u00a0=\u00a0{row['p']:.3f}"
        if row["p"] >= 0.001
        else "p\u00a0<\u00a00.001",
        "verdict": verdict(row, metric) or "unclear",
    }


def verdict(row: Mapping[str, Any], metric: Metric) -> str:
    """A difference's mean, low, high and p -> "better", "worse", or "" where it is not clear."""
    if row["p"] is None or row["p"] >= 0.05 or row["low"] <= 0 <= row["high"]:
        return ""
    return "better" if (row["mean"] > 0) == metric.higher_is_better else "worse"


def bounds(row: Mapping[str, Any], decimals: int) -> str:
    """The interval of a difference, "" where it has none."""
    return "" if row["low"] is None else f"{signed(row['low'], decimals)} to {signed(row['high'], decimals)}"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def undefined(data: ReportData) -> list[str]:
    """A line for every image that a metric left out, with the reason."""
    return [
        f"{metric.label} leaves out {key} ({table.split}): {reason}"
        for table in data.tables
        for metric in data.metrics
        for key, reason in sorted(table.undefined(metric.name).items())
    ]


def planes(data: ReportData) -> list[dict[str, Any]]:
    """A perception-distortion plane per split that has PSNR and NIQE."""
    by_name, labels = {metric.name: metric for metric in data.metrics}, data.labels
    found: list[dict[str, Any]] = []
    if not {"psnr", "niqe"} <= by_name.keys():
        return found
    names = {(example.split, example.key): example.name for example in data.examples}
    for table in data.tables:
        rows = {(r["method"], r["metric"]): r for r in data.summary["rows"] if r["split"] == table.split}
        methods = [m for m in table.methods if table.values(m, "psnr") and table.values(m, "niqe")]
        if not methods:
            continue
        means, images = [], []
        for method in methods:
            x, y = rows[method, "psnr"], rows[method, "niqe"]
            bounds = [None if row["low"] is None else (row["low"], row["high"]) for row in (x, y)]
            means.append(figures.MeanPoint(method, labels[method], x["mean"], y["mean"], bounds[0], bounds[1]))
            naturalness = table.values(method, "niqe")
            images += [
                (
                    method,
                    f"{labels[method]}, {names[table.split, key]}: PSNR-Y {psnr:.2f}, NIQE {naturalness[key]:.2f}",
                    psnr,
                    naturalness[key],
                )
                for key, psnr in table.values(method, "psnr").items()
                if key in naturalness
            ]
        level = table.mean("hr", "niqe") if table.values("hr", "niqe") else None
        reference = None if level is None else ("Ground truth", level)
        chart = figures.tradeoff(means, images, (by_name["psnr"].label, by_name["niqe"].label), reference)
        legend = [(method, labels[method]) for method in methods] + ([("hr", "Ground truth")] if reference else [])
        found.append({"split": table.split, "chart": chart, "legend": legend})
    return found


def sweeps(data: ReportData) -> list[dict[str, Any]]:
    """A plane per method that `spasemsr dial` swept: a curve for each thing varied, and the Pareto front of all."""
    by_name, found = {metric.name: metric for metric in data.metrics}, []
    for method in dict.fromkeys(point.method for point in data.sweep):
        points = [point for point in data.sweep if point.method == method and {"psnr", "niqe"} <= point.means.keys()]
        if not points or not {"psnr", "niqe"} <= by_name.keys():
            continue
        runs: dict[str, list[tuple[str, float, float]]] = {}
        for point in points:
            place = (f"{point.sweep} {point.value}", point.means["psnr"], point.means["niqe"])
            runs.setdefault(point.sweep, []).append(place)
        names = list(data.colours)
        groups = {name: names[place % len(names)] for place, name in enumerate(runs)}
        plane = [(point.means["psnr"], point.means["niqe"]) for point in points]
        front = [plane[index] for index in pareto_front(plane)]
        labels = (by_name["psnr"].label, by_name["niqe"].label)
        legend = [(groups[name], name) for name in runs] + [("hr", "Pareto front")]
        chart = figures.sweep(runs, groups, front, labels)
        found.append({"label": data.labels.get(method, method), "n": points[0].n, "chart": chart, "legend": legend})
    return found


def invented(data: ReportData) -> list[str]:
    """What the maps say on average, a sentence per method that has them."""
    found = []
    for method, rows in data.maps.items():
        scores = means(rows)
        text = (
            f"{data.labels.get(method, method)}, {len(rows)} images: luma spreads by {scores[DEVIATION]:.2f} grey "
            f"levels over noise seeds, and the reduced result is {scores[LR_RESIDUAL]:.2f} grey levels from LR."
        )
        if CORRELATION in scores:
            text += f" The spread correlates with the error that is really made at r = {scores[CORRELATION]:.2f}."
        found.append(text)
    return found


def curves(data: ReportData) -> list[dict[str, Any]]:
    """Every numeric column but the step of every losses.csv, and of the validation.csv that some runs have."""
    found = []
    for what, by_method in (("Training of {}", data.losses), ("{} on samples held out of training", data.validation)):
        for method, rows in by_method.items():
            columns = [column for column in (rows[0] if rows else {}) if column != "step"]
            charts = [chart for column in columns if (chart := figures.curve(rows, column, method))]
            if charts:
                title = what.format(data.labels.get(method, method))
                found.append({"method": method, "title": f"{title}, over steps", "charts": charts})
    return found


def score_rows(data: ReportData, shown: Sequence[Example]) -> list[dict[str, Any]]:
    """The per-image table: a line per image, a cell per metric and method."""
    place = {(example.split, example.key): index for index, example in enumerate(shown)}
    names = {(example.split, example.key): example.name for example in data.examples}
    lines = []
    for table in data.tables:
        scores = {(row.key, row.method): row.values for row in table.rows}
        for key in table.keys:
            cells: list[dict[str, Any]] = []
            for metric in data.metrics:
                values = {
                    row.name: scores.get((key, row.name), {}).get(metric.name)
                    for row in data.methods
                    if row.name != "hr"
                }
                known = [value for value in values.values() if value is not None and value == value]
                best = (max(known) if metric.higher_is_better else min(known)) if len(known) > 1 else None
                for value in values.values():
                    if value is None or math.isnan(value):
                        cells.append({"text": "–" if value is None else "undefined", "value": "", "best": False})
                    else:
                        cells.append({"text": digits(value, metric), "value": value, "best": value == best})
            where = (table.split, key)
            lines.append(
                {"split": table.split, "key": key, "name": names[where], "index": place.get(where), "cells": cells}
            )
    return lines


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as dotted names and text, in its own order."""
    if isinstance(value, Mapping):
        return [item for key, inner in value.items() for item in flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list | tuple):
        return [(prefix, ", ".join(str(item) for item in value))]
    return [(prefix, f"{value:.6g}" if isinstance(value, float) else str(value))]


def digits(value: float, metric: Metric) -> str:
    """A score with the digits of its metric."""
    return "undefined" if value != value else f"{value:.{metric.decimals}f}"


def featured(data: ReportData, shown: Sequence[Example]) -> int:
    """The shown image on which the method has its median score of the first metric: neither picked nor best."""
    table = data.tables[0]
    values = table.values(data.ours.name, data.metrics[0].name) if data.metrics else {}
    ranked = sorted(
        (values[e.key], place) for place, e in enumerate(shown) if e.split == table.split and e.key in values
    )
    return ranked[len(ranked) // 2][1] if ranked else 0


def signed(value: float, decimals: int) -> str:
    """A difference with its sign, which what is rounded to zero has not."""
    text = f"{value:+.{decimals}f}".replace("-", "−")
    return text if float(text[1:]) else text[1:]
