"""How sure the means are: bootstrap 95 % intervals, paired differences between methods and their p values.

Patches of one photograph are alike, so what is resampled is the photograph with all its patches (a cluster bootstrap);
an interval over patches as if they were independent would be too narrow. Every draw comes from a named seed, and the
draws of a split are shared by all methods, which pairs them. G photographs, R resamples.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spasemsr.data.patches import KEY
from spasemsr.evaluation.metrics import Metric
from spasemsr.evaluation.scores import DIGITS, ScoreTable
from spasemsr.randomness import generator

RESAMPLES = 10_000
CONFIDENCE = 0.95
_PIECE = 1000  # resamples held in memory at once
_DIV2K_CROP = re.compile(r"(08\d\d|0900)_(\d\d|pch_\d+)")  # of DIV2K-Val: as built here, and as StableSR publishes it
_EXACT_UP_TO = 12  # photographs: 2^12 sign patterns are enumerated, more are drawn

Float64 = npt.NDArray[np.float64]


def summarize(tables: Sequence[ScoreTable], metrics: Sequence[Metric], seed: int) -> dict[str, Any]:
    """Means with intervals and paired differences of every split, each row with the provenance of its metric.

    `rows`: split, method, mean, low, high, n (images), photographs, undefined, and Metric.describe().
    `differences`: split, metric, method minus baseline: mean, low, high, p (two-sided sign-flip test), n.
    `sets`: split, n and the hash of its key list. Bounds and p are null for a single photograph.
    """
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for table in tables:
        for metric in metrics:
            if metric.name in table.metrics:
                rows += _rows(table, metric, seed)
                differences += _differences(table, metric.name, seed)
    return {
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "resampled": "photographs with all their patches",
        "rows": rows,
        "differences": differences,
        "sets": [{"split": table.split, "n": len(table.keys), "keys_sha256": table.keys_sha256} for table in tables],
    }


def photograph_of(key: str) -> str:
    """What a key was cut from: the hash part of a patch key, the number in a crop of DIV2K-Val; else the key itself."""
    if crop := _DIV2K_CROP.fullmatch(key):
        return crop[1]
    return key[:16] if KEY.fullmatch(key) else key


def by_turns(keys: Sequence[str]) -> list[str]:
    """Keys of patches in turns: the first of every photograph, then the second of every one, and so on.

    So the first few are of as many photographs as there are, and neighbours are of different ones.
    """
    turns: Counter[str] = Counter()
    turn_of = {}
    for key in keys:
        turn_of[key] = turns[photograph_of(key)]
        turns[photograph_of(key)] += 1
    return sorted(keys, key=turn_of.__getitem__)


def interval(values: Mapping[str, float], seed: int, *names: str) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean of per-image values; None for fewer than two photographs."""
    sums, counts = _by_photograph(values)
    if len(sums) < 2:
        return None
    random, even = generator(seed, "bootstrap", *names), np.full(len(sums), 1 / len(sums))
    draws = (random.multinomial(len(sums), even, _PIECE) for _ in range(RESAMPLES // _PIECE))  # (R / pieces, G) each
    resampled = np.concatenate([(draw @ sums) / (draw @ counts) for draw in draws])  # (R,)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def sign_flip_p(differences: Mapping[str, float], seed: int, *names: str) -> float | None:
    """Two-sided p of "the methods are exchangeable": the share of sign patterns, one sign per photograph, whose mean
    difference is at least as large; exact up to 12 photographs, drawn above. None for a single photograph.
    """
    sums, _ = _by_photograph(differences)
    if len(sums) < 2:
        return None
    observed = abs(sums.sum()) * (1 - 1e-12)  # sums in another order may differ in the last bit
    if len(sums) <= _EXACT_UP_TO:
        patterns = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ sums) >= observed))
    random = generator(seed, "sign-flip", *names)
    draws = (random.integers(0, 2, (_PIECE, len(sums))) for _ in range(RESAMPLES // _PIECE))
    as_large = sum(int(np.sum(np.abs((1 - 2 * draw) @ sums) >= observed)) for draw in draws)
    return (1 + as_large) / (1 + RESAMPLES)


def _rows(table: ScoreTable, metric: Metric, seed: int) -> list[dict[str, Any]]:
    """One row per method that has the metric."""
    rows = []
    for method in table.methods:
        values = table.values(method, metric.name)
        if not table.has(method, metric.name):
            continue
        bounds = interval(values, seed, table.split, metric.name)
        rows.append(
            {
                **metric.describe(),
                "split": table.split,
                "method": method,
                "mean": _rounded(table.mean(method, metric.name)) if values else None,
                "low": _rounded(bounds[0]) if bounds else None,
                "high": _rounded(bounds[1]) if bounds else None,
                "n": len(values),
                "photographs": len({photograph_of(key) for key in values}),
                "undefined": table.undefined(metric.name),
            }
        )
    return rows


def _differences(table: ScoreTable, metric: str, seed: int) -> list[dict[str, Any]]:
    """Every method minus every later one, image by image."""
    scored = [method for method in table.methods if table.values(method, metric)]
    found = []
    for place, method in enumerate(scored):
        for baseline in scored[place + 1 :]:
            ours, theirs = table.values(method, metric), table.values(baseline, metric)
            gains = {key: ours[key] - theirs[key] for key in ours}
            bounds = interval(gains, seed, table.split, metric)
            p = sign_flip_p(gains, seed, table.split, metric)
            found.append(
                {
                    "split": table.split,
                    "metric": metric,
                    "method": method,
                    "baseline": baseline,
                    "mean": _rounded(float(np.mean(list(gains.values())))),
                    "low": _rounded(bounds[0]) if bounds else None,
                    "high": _rounded(bounds[1]) if bounds else None,
                    "p": None if p is None else _rounded(p),
                    "n": len(gains),
                }
            )
    return found


def _by_photograph(values: Mapping[str, float]) -> tuple[Float64, Float64]:
    """Sum and count of the values of each photograph, (G,) each, in key order."""
    groups: dict[str, list[float]] = {}
    for key in sorted(values):
        groups.setdefault(photograph_of(key), []).append(values[key])
    sums = np.array([np.sum(group) for group in groups.values()], dtype=np.float64)
    return sums, np.array([len(group) for group in groups.values()], dtype=np.float64)


def _rounded(value: float) -> float:
    return round(value, DIGITS)
