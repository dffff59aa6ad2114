"""Where a result disagrees between noise seeds and with lr, image by image: scores of the two maps, and their file."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.evaluation.scores import write_rows

DEVIATION, LR_RESIDUAL, CORRELATION = "deviation", "lr_residual", "error_correlation"
LABELS = {DEVIATION: "Spread over seeds", LR_RESIDUAL: "Contradicts LR"}
_DIGITS = 4
_COLUMNS = ("key", DEVIATION, LR_RESIDUAL, CORRELATION)


@dataclass(frozen=True)
class MapScores:
    """The scores of one image's maps.

    `deviation` is the spread of luma over noise seeds, `lr_residual` how far the reduced result is from lr, both means
    over the image in grey levels. `error_correlation` is the correlation of the deviation with the error against hr;
    None for an image without any spread or error.
    """

    key: str
    deviation: float
    lr_residual: float
    error_correlation: float | None


def picture_of(folder: Path, key: str, name: str) -> Path:
    """Where the map `name` (DEVIATION or LR_RESIDUAL) of an image lies."""
    return folder / f"{key}.{name}.png"


def write_maps(path: Path, rows: Sequence[MapScores]) -> None:
    """One line per image, in the order given; an absent correlation is an empty cell."""
    lines: list[Sequence[str]] = [_COLUMNS]
    for row in rows:
        values = (row.deviation, row.lr_residual, row.error_correlation)
        lines.append([row.key, *("" if value is None else f"{value:.{_DIGITS}f}" for value in values)])
    write_rows(path, lines)


def read_maps(path: Path) -> list[MapScores]:
    """Read the file back. Raises UserError for an absent or altered one."""
    remedy = "Run: dvc repro dial"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = list(csv.reader(file))
        if tuple(header) != _COLUMNS:
            raise ValueError("unexpected columns")
        return [MapScores(key, float(d), float(r), float(c) if c else None) for key, d, r, c in lines]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", remedy) from None
    except ValueError as error:
        raise UserError(f"{path} is not a table of maps: {error}.", remedy) from None


def means(rows: Sequence[MapScores]) -> Mapping[str, float]:
    """Means over images by score; the correlation over those that have one."""
    columns = {
        DEVIATION: [row.deviation for row in rows],
        LR_RESIDUAL: [row.lr_residual for row in rows],
        CORRELATION: [row.error_correlation for row in rows if row.error_correlation is not None],
    }
    return {name: round(math.fsum(values) / len(values), _DIGITS) for name, values in columns.items() if values}
