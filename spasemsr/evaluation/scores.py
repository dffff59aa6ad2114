"""The table of per-image scores, and what follows from it: per_image.csv, metrics.json, tradeoff.csv.

A row is one image under one method. Every method is scored on the same declared keys: a missing or extra key is an
error that names it, so no failed image drops out of a mean. Where a metric is undefined on an image (NIQE of a constant
one) the cell says `nan`, the note says why, and the image is left out of that metric's mean for every method alike, so
that means always compare equal sets; `n` beside each mean tells.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spasemsr import atomic
from spasemsr.errors import UserError
from spasemsr.evaluation.metrics import Metric, MetricUndefined
from spasemsr.hashing import digest_of
from spasemsr.pixels import ImageU8

DIGITS = 6  # every stored score is rounded to this, so that means recomputed from the CSV are the same means
_BEFORE, _AFTER = ("split", "key", "method"), ("note",)

Means = dict[str, dict[str, dict[str, float]]]  # split -> method -> metric -> mean


@dataclass(frozen=True)
class Row:
    """Scores of one image under one method; NaN where a metric is undefined, absent where it was not asked for."""

    split: str
    key: str
    method: str
    values: Mapping[str, float]
    note: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """Rows of one split, all methods on the same keys; `metrics` and `methods` keep the order of presentation."""

    split: str
    metrics: tuple[str, ...]
    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    keys: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        keys = sorted({row.key for row in self.rows})
        object.__setattr__(self, "keys", tuple(keys))
        for method in self.methods:
            given = [row.key for row in self.rows if row.method == method]
            check_keys(keys, given, f"Method {method!r} of split {self.split!r}")

    def values(self, method: str, metric: str) -> dict[str, float]:
        """Key -> score, in key order, for the keys at which every method that has the metric has a value."""
        undefined = set(self.undefined(metric))
        found = {row.key: row.values[metric] for row in self.rows if row.method == method and metric in row.values}
        return {key: found[key] for key in self.keys if key in found and key not in undefined}

    def undefined(self, metric: str) -> dict[str, str]:
        """Key -> at which method and why, for the keys left out of this metric's means."""
        bad = [row for row in self.rows if math.isnan(row.values.get(metric, 0.0))]
        return {row.key: f"{row.method}: {row.note}" for row in reversed(bad)}

    def has(self, method: str, metric: str) -> bool:
        """Whether the metric was asked for under this method (ground truth has no PSNR)."""
        return any(metric in row.values for row in self.rows if row.method == method)

    def mean(self, method: str, metric: str) -> float:
        """Mean over `values`; NaN when the metric is undefined on every image."""
        values = self.values(method, metric)
        return math.fsum(values.values()) / len(values) if values else math.nan

    @property
    def keys_sha256(self) -> str:
        """Hash of the key list: two means are of the same images exactly when this agrees."""
        return digest_of((key,) for key in self.keys)


def check_keys(expected: Iterable[str], given: Sequence[str], what: str, more: str = "") -> None:
    """Both list the same keys, each once, or a UserError naming what is missing, extra or repeated.

    `more` is what else can be done about it than to rename files.
    """
    wanted, found = set(expected), set(given)
    repeated = {key for key in found if given.count(key) > 1} if len(given) > len(found) else set()
    extra = found - wanted
    problems = [
        f"{said} ({_first(keys)})"
        for said, keys in (
            (f"lacks {len(wanted - found)} of {len(wanted)} keys", wanted - found),
            (f"has {len(extra)} {'key' if len(extra) == 1 else 'keys'} too many", extra),
            (f"repeats {len(repeated)} of {len(wanted)} keys", repeated),
        )
        if keys
    ]
    if problems:
        raise UserError(
            f"{what} {' and '.join(problems)}.", f"Images are paired by key; give each key exactly one image.{more}"
        )


def score_image(split: str, key: str, method: str, restored: ImageU8, hr: ImageU8, metrics: Sequence[Metric]) -> Row:
    """Score one image; UserErrors of a metric gain the key and the method they happened at."""
    values: dict[str, float] = {}
    notes: list[str] = []
    for metric in metrics:
        try:
            values[metric.name] = finite(metric.compute(restored, hr), f"{metric.name} of {method}, {key}")
        except MetricUndefined as reason:
            values[metric.name] = math.nan
            notes.append(f"{metric.name}: {reason}")
        except UserError as error:
            raise UserError(f"{method}, {key}: {error.what}", error.remedy) from None
    return Row(split, key, method, values, "; ".join(notes))


def finite(value: float, what: str) -> float:
    """A score as it is stored; a metric that returns NaN without saying why is a defect."""
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}")
    return round(value, DIGITS)


def write_per_image(path: Path, tables: Sequence[ScoreTable]) -> None:
    """Write per_image.csv: one line per image and method, sorted by split, key and the order of methods."""
    metrics = list(dict.fromkeys(metric for table in tables for metric in table.metrics))
    lines = [[*_BEFORE, *metrics, *_AFTER]]
    for table in sorted(tables, key=lambda table: table.split):
        for row in sorted(table.rows, key=lambda row: (row.key, table.methods.index(row.method))):
            cells = [f"{row.values[metric]:.{DIGITS}f}" if metric in row.values else "" for metric in metrics]
            lines.append([row.split, row.key, row.method, *cells, row.note])
    write_rows(path, lines)


def read_per_image(path: Path) -> list[ScoreTable]:
    """Read per_image.csv back, one table per split; a missing or altered file is a UserError."""
    remedy = "Run: dvc repro evaluate"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file))
        if tuple(header[:3]) != _BEFORE or tuple(header[-1:]) != _AFTER:
            raise ValueError("unexpected columns")
        metrics = header[len(_BEFORE) : -len(_AFTER)]
        rows = [_row(line, metrics) for line in lines]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", remedy) from None
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is not a table of scores: {error}.", remedy) from None
    tables = []
    for split in dict.fromkeys(row.split for row in rows):
        own = tuple(row for row in rows if row.split == split)
        methods = tuple(dict.fromkeys(row.method for row in own))
        named = tuple(metric for metric in metrics if any(metric in row.values for row in own))
        tables.append(ScoreTable(split, named, methods, own))
    return tables


def merge(tables: Iterable[ScoreTable]) -> list[ScoreTable]:
    """Tables of several methods -> one per split; a row given twice (a shared baseline) must agree with itself.

    Methods keep their place in their own table, so what stood first in each stands before the shared baselines.
    """
    merged: list[ScoreTable] = []
    tables = list(tables)
    for split in dict.fromkeys(table.split for table in tables):
        own = [table for table in tables if table.split == split]
        rows: dict[tuple[str, str], Row] = {}
        for row in (row for table in own for row in table.rows):
            known = rows.setdefault((row.key, row.method), row)
            if known.note != row.note or not _agree(known.values, row.values):
                raise UserError(
                    f"{row.method!r} was scored twice on {row.key} of split {split!r}, with different results.",
                    "The score tables are of different runs. Run: dvc repro evaluate",
                )
        metrics = dict.fromkeys(metric for table in own for metric in table.metrics)
        methods = dict.fromkeys(method for _, method in sorted(_places(own), key=lambda pair: pair[0]))
        merged.append(ScoreTable(split, tuple(metrics), tuple(methods), tuple(rows.values())))
    return merged


def means(tables: Sequence[ScoreTable]) -> Means:
    """`{split: {method: {metric: mean}}}`, the shape that `dvc metrics diff` reads; undefined means are left out."""
    return {
        table.split: {
            method: {
                metric: round(table.mean(method, metric), DIGITS)
                for metric in table.metrics
                if table.values(method, metric)
            }
            for method in table.methods
        }
        for table in tables
    }


def write_metrics(path: Path, tables: Sequence[ScoreTable], bounds: Mapping[str, tuple[float, float] | None]) -> None:
    """Write metrics.json: `means`, and the intervals of those metrics that have bounds."""
    intervals = {
        name: {"low": round(sides[0], DIGITS), "high": round(sides[1], DIGITS)}
        for name, sides in bounds.items()
        if sides is not None
    }
    write_json(path, means(tables) | ({"intervals": intervals} if intervals else {}))


def write_tradeoff(path: Path, tables: Sequence[ScoreTable]) -> None:
    """Write tradeoff.csv, the means by method that `dvc plots` draws as a perception-distortion plane."""
    metrics = list(dict.fromkeys(metric for table in tables for metric in table.metrics))
    lines: list[list[object]] = [["split", "method", *metrics, "n"]]
    for split, methods in means(tables).items():
        count = next(len(table.keys) for table in tables if table.split == split)
        for method, values in methods.items():
            cells = [f"{values[metric]:.{DIGITS}f}" if metric in values else "" for metric in metrics]
            lines.append([split, method, *cells, count])
    write_rows(path, lines)


def require_writable(path: Path) -> None:
    """Raise UserError where a file cannot be written: asked before scores are computed, so that they are not lost."""
    try:
        atomic.trial(path)
    except OSError as error:
        below = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it would lie below a file" if below else error.strerror or error
        remedy = "Name a file in a folder that you may write to."
        raise UserError(f"{path} cannot be written: {reason}.", remedy) from None


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys and no NaN, readable in a diff, whole or not at all."""
    atomic.write_through(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode(), b"\n")


def write_rows(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write CSV, whole or not at all: a full disk takes no table of an earlier run away."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    atomic.write_through(path, text.getvalue().encode())


def _row(line: Sequence[str], metrics: Sequence[str]) -> Row:
    """One CSV line as a Row; an empty cell is a metric that was not asked for."""
    split, key, method, *cells, note = line
    if len(cells) != len(metrics):
        raise ValueError(f"{len(cells)} scores for {len(metrics)} metrics at {key}")
    values = {metric: float(cell) for metric, cell in zip(metrics, cells, strict=True) if cell}
    return Row(split, key, method, values, note)


def _places(tables: Iterable[ScoreTable]) -> list[tuple[int, str]]:
    """Every method with its place in the table it comes from."""
    return [pair for table in tables for pair in enumerate(table.methods)]


def _agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Equal scores, NaN equal to NaN."""
    same = one.keys() == other.keys()
    return same and all(one[name] == other[name] or (math.isnan(one[name]) and math.isnan(other[name])) for name in one)


def _first(keys: Iterable[str]) -> str:
    """Up to ten keys for a message."""
    ordered = sorted(keys)
    return ", ".join(ordered[:10]) + (f", and {len(ordered) - 10} more" if len(ordered) > 10 else "")
