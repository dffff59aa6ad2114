"""Whether two metrics put the same methods in the same order, from what `spasemsr score --json` wrote.

Papers print LPIPS; ST-LPIPS forgives small shifts. This says whether one may stand for the other. Only means of the
same images, by the same implementations and weights, are ranked together.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from pipeline.tools.scored import images_of, kind_of

COMPARED = ("lpips", "stlpips")


def rankings(records: Sequence[Mapping[str, Any]], metrics: tuple[str, str] = COMPARED) -> Iterator[str]:
    """For each set that two methods or more were scored on by both metrics: a line per method, then the agreement.

    Ranks start at 1, the best; equal means share the mean of their ranks. Agreement is Spearman's rho and Kendall's
    tau-b of the ranks, 1 for the same order and -1 for the opposite one, and how many pairs of methods the two metrics
    put the other way round. Yields nothing where there is nothing to rank.
    """
    groups: dict[tuple[Any, ...], list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]] = {}
    for record in records:
        rows = {row["metric"]: row for row in record["rows"] if row["mean"] is not None}
        if all(metric in rows for metric in metrics):
            one, other = (rows[metric] for metric in metrics)
            # a metric that is undefined on some image was averaged over fewer
            images = (*images_of(record), one["n"], other["n"])
            groups.setdefault((*images, kind_of(one), kind_of(other)), []).append((record["method"], one, other))
    for (name, _, _, n, *_), methods in groups.items():
        if len(methods) > 1:
            yield from _table(f"{name}, n {n}", metrics, methods)


def _table(
    where: str, metrics: tuple[str, str], methods: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]
) -> Iterator[str]:
    """One set's methods in the order of the first metric."""
    one, other = _ranks([row for _, row, _ in methods]), _ranks([row for _, _, row in methods])
    names = [name for name, *_ in methods]
    wide = max(len("method"), *map(len, names))
    yield f"Ranks by {metrics[0]} and by {metrics[1]} · {where} · MEASURED"
    yield f"{'method':<{wide}}  {metrics[0]:>16}  {metrics[1]:>16}"
    for place in np.argsort(one, kind="stable"):
        name, *rows = methods[place]
        cells = (f"{ranks[place]:>6g}  {row['mean']:>8.4f}" for ranks, row in zip((one, other), rows, strict=True))
        yield "  ".join([f"{name:<{wide}}", *cells])
    if len({*one}) == 1 or len({*other}) == 1:
        yield "No agreement can be stated: one of them gives every method the same mean."
    else:
        rho, tau = stats.spearmanr(one, other).statistic, stats.kendalltau(one, other).statistic
        pairs = list(combinations(range(len(names)), 2))
        apart = sum((one[a] - one[b]) * (other[a] - other[b]) < 0 for a, b in pairs)
        agreement = f"Spearman's rho {rho:.2f}, Kendall's tau {tau:.2f} over {len(names)} methods"
        yield f"{agreement}: {apart} of {len(pairs)} pairs the other way round"
    yield ""


def _ranks(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The place of each mean, 1 the best."""
    means = np.array([row["mean"] for row in rows])
    return stats.rankdata(-means if rows[0]["higher_is_better"] else means).tolist()
