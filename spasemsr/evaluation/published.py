"""The tables of the four papers, as printed there, and their rendering beside our own measurements.

`published.csv` in a method's folder holds every number with its table, method, set and metric, transcribed from its
paper; its face has the titles. Tables 1 and 2 of SpaSemSR are one list here: they share rows and sets. Published and
measured numbers stand in columns of their own with the label of what they are, because two implementations of one
metric are two metrics.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spasemsr import methods
from spasemsr.evaluation.scores import write_rows
from spasemsr.evaluation.testsets import SETS

# What the paper's columns are. MANIQA has two weights in circulation; this is the one its numbers match.
PUBLISHED_METRICS = {"psnr": "PSNR", "ssim": "SSIM", "clipiqa": "CLIP-IQA", "musiq": "MUSIQ", "maniqa": "MANIQA"}
_DECIMALS = {"psnr": 2, "musiq": 2, "niqe": 2, "fid": 2}
_COLUMNS = 20  # of a table side by side; more are printed as a table below
NOTE = (
    "published: transcribed from the paper. measured: by this program, on what the heading says. Nothing published\n"
    "was measured here; other images, sizes and weights make other numbers, so compare down a column, not across."
)


@dataclass(frozen=True)
class Number:
    """One cell: `origin` is "published" or says where it was measured."""

    table: str
    method: str
    where: str
    metric: str
    value: float
    origin: str = "published"


def titles() -> dict[str, str]:
    """Titles of all papers' tables, by the names that numbers have."""
    return dict(sorted(item for name in methods.names() for item in methods.method(name).tables.items()))


def published() -> list[Number]:
    """Every number of those tables, in the order of each paper."""
    found = []
    for path in sorted(Path(methods.__file__).parent.glob("*/published.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += [
                Number(row["table"], row["method"], row["set"], row["metric"], float(row["value"]))
                for row in csv.DictReader(file)
            ]
    return found


def render(measured: Sequence[Number]) -> list[str]:
    """The tables as lines of text: published columns first, then measured ones, each group under its own heading."""
    lines = []
    for table, title in titles().items():
        numbers = [number for number in (*published(), *measured) if number.table == table]
        lines.append(title)
        for block in _blocks(numbers):
            lines += [*_table(block), ""]
    return [*lines, *NOTE.splitlines()]


def _blocks(numbers: Sequence[Number]) -> list[list[Number]]:
    """Numbers of one table, the published ones first, cut between sets where there are too many columns."""
    columns = dict.fromkeys((number.origin, number.where, number.metric) for number in numbers)
    blocks: list[list[tuple[str, str]]] = [[]]
    used = 0
    for origin, where in sorted(dict.fromkeys(column[:2] for column in columns), key=lambda of: of[0] != "published"):
        wide = sum(column[:2] == (origin, where) for column in columns)
        if used and used + wide > _COLUMNS:
            blocks.append([])
            used = 0
        blocks[-1].append((origin, where))
        used += wide
    return [[number for number in numbers if (number.origin, number.where) in block] for block in blocks]


def write_csv(path: Path, measured: Sequence[Number]) -> None:
    """All numbers in long form: table, method, set, metric, origin, value."""
    lines = [["table", "method", "set", "metric", "origin", "value"]]
    for number in (*published(), *measured):
        cells = (number.table, number.method, number.where, number.metric, number.origin)
        lines.append([*cells, _digits(number.metric, number.value)])
    write_rows(path, lines)


def _table(numbers: Sequence[Number]) -> list[str]:
    """One table; a column is an origin, a set and a metric."""
    columns = list(dict.fromkeys((number.origin, number.where, number.metric) for number in numbers))
    columns.sort(key=lambda column: column[0] != "published")
    methods = list(dict.fromkeys(number.method for number in numbers))
    cells = {(n.method, (n.origin, n.where, n.metric)): _digits(n.metric, n.value) for n in numbers}
    grid = [
        ["", *_once([_heading(origin) for origin, _, _ in columns])],
        ["", *_once([f"{_set(where)}" for _, where, _ in columns])],
        ["method", *(PUBLISHED_METRICS.get(metric, metric.upper()) for _, _, metric in columns)],
        *([method, *(cells.get((method, column), "") for column in columns)] for method in methods),
    ]
    widths = [max(len(row[0]) for row in grid), *(max(len(row[i]) for row in grid[2:]) for i in range(1, len(grid[0])))]
    for row in grid[:2]:
        _widen(row, widths)
    lines = [_spanned(row, widths) for row in grid[:2]]
    lines += ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in grid[2:]]
    lines.insert(3, "-" * max(map(len, lines)))
    return lines


def _once(labels: Sequence[str]) -> list[str]:
    """Each run of equal labels, at its first column only."""
    return ["" if index and label == labels[index - 1] else label for index, label in enumerate(labels)]


def _groups(row: Sequence[str]) -> list[tuple[int, int]]:
    """First and last column of what each heading spans."""
    starts = [index for index in range(1, len(row)) if row[index]]
    return list(zip(starts, [*(start - 1 for start in starts[1:]), len(row) - 1], strict=True))


def _widen(row: Sequence[str], widths: list[int]) -> None:
    """Make the columns under a heading wide enough for it."""
    for start, end in _groups(row):
        room = sum(widths[start : end + 1]) + 2 * (end - start)
        widths[end] += max(len(row[start]) - room, 0)


def _spanned(row: Sequence[str], widths: Sequence[int]) -> str:
    """Headings over their columns."""
    parts = [" " * widths[0]]
    for start, end in _groups(row):
        parts.append(row[start].ljust(sum(widths[start : end + 1]) + 2 * (end - start)))
    return "  ".join(parts).rstrip()


def _heading(origin: str) -> str:
    return "PUBLISHED" if origin == "published" else f"MEASURED: {origin}"


def _set(where: str) -> str:
    return SETS[where].label if where in SETS else where


def _digits(metric: str, value: float) -> str:
    return f"{value:.{_DECIMALS.get(metric, 4)}f}"
