"""A sweep of sampling-time settings on the perception-distortion plane: its points, its Pareto front, its CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.evaluation.scores import DIGITS, write_rows

_BEFORE, _AFTER = ("method", "sweep", "value"), ("n", "front")


@dataclass(frozen=True)
class SweepPoint:
    """Means over n images at one setting: `sweep` is what was varied, `value` how far, as text."""

    method: str
    sweep: str
    value: str
    means: dict[str, float] = field(hash=False)
    n: int


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (distortion score, more is better; naturalness, less is better) that no other beats.

    A point is beaten by one at least as good in both and better in one; equal points do not beat each other. Ordered
    by the first coordinate.
    """
    front = [
        index
        for index, (x, y) in enumerate(points)
        if not any(a >= x and b <= y and (a > x or b < y) for a, b in points)
    ]
    return sorted(front, key=lambda index: points[index])


def front_of(points: Sequence[SweepPoint]) -> set[int]:
    """Indices of the sweep points on the front of PSNR and NIQE; empty where either was not measured."""
    if not all({"psnr", "niqe"} <= point.means.keys() for point in points):
        return set()
    return set(pareto_front([(point.means["psnr"], point.means["niqe"]) for point in points]))


def write_sweep(path: Path, points: Sequence[SweepPoint]) -> None:
    """One line per setting, in the order given; `front` is 1 on the Pareto front of PSNR and NIQE."""
    metrics = list(dict.fromkeys(metric for point in points for metric in point.means))
    front = front_of(points)
    lines: list[list[object]] = [[*_BEFORE, *metrics, *_AFTER]]
    for index, point in enumerate(points):
        cells = [f"{point.means[metric]:.{DIGITS}f}" if metric in point.means else "" for metric in metrics]
        lines.append([point.method, point.sweep, point.value, *cells, point.n, int(index in front)])
    write_rows(path, lines)


def read_sweep(path: Path) -> list[SweepPoint]:
    """Read a sweep back. Raises UserError for an absent or altered file."""
    remedy = "Run: dvc repro dial"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file))
        if tuple(header[:3]) != _BEFORE or tuple(header[-2:]) != _AFTER:
            raise ValueError("unexpected columns")
        metrics = header[3:-2]
        return [_point(line, metrics) for line in lines]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", remedy) from None
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is not a sweep: {error}.", remedy) from None


def _point(line: Sequence[str], metrics: Sequence[str]) -> SweepPoint:
    """One line of the file; an empty cell is a metric that was not asked for."""
    method, sweep, value, *cells, n, _ = line
    means = {metric: float(cell) for metric, cell in zip(metrics, cells, strict=True) if cell}
    return SweepPoint(method, sweep, value, means, int(n))
