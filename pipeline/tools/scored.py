"""What `spasemsr score --json` wrote: read back, and as cells of the table in which everything measured stands.

Two scores share a column only where they are of the same images and by the same metric.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spasemsr.errors import UserError
from spasemsr.evaluation.published import Number

TABLE = "1-2"  # where everything measured stands side by side
_KIND = ("implementation", "version", "weights", "colour_space", "crop", "protocol")


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The JSON files that `--json` wrote into a folder, by name; others are an error that names them.

    Where several files score one method on the same images by the same metric, the method's name gets the file's, so
    that none is lost.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found[path.stem] = {part: record[part] for part in ("rows", "method", "set")}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} was not written by spasemsr score --json.", "Move it elsewhere.") from None
    times = Counter(cell for record in found.values() for cell in _cells(record))
    again = [stem for stem, record in found.items() if any(times[cell] > 1 for cell in _cells(record))]
    for stem in again:
        found[stem]["method"] = f"{found[stem]['method']} ({stem})"
    return list(found.values())


def _cells(record: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """What a record says, without the numbers."""
    return {(record["method"], images_of(record), row["metric"]) for row in record["rows"]}


def images_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Which images a record's scores are of: means compare where the set's name, its keys and its hr agree."""
    return tuple(record["set"].get(part, "") for part in ("name", "keys_sha256", "hr_sha256"))


def kind_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two scores of one name comparable: rows that differ here are two metrics."""
    return tuple(str(row.get(part, "")) for part in _KIND)


def cells_of(records: Sequence[Mapping[str, Any]]) -> list[Number]:
    """One cell for each mean; where records differ in images or in the metric, their columns say by what."""
    kinds: dict[str, set[tuple[str, ...]]] = {}
    images: dict[str, set[tuple[str, ...]]] = {}
    for record in records:
        images.setdefault(record["set"]["name"], set()).add(images_of(record))
        for row in record["rows"]:
            kinds.setdefault(row["metric"], set()).add(kind_of(row))
    cells = []
    for record in records:
        name, keys, hr = images_of(record)
        which = f", images {(hr or keys)[:8]}" if len(images[name]) > 1 else ""
        for row in record["rows"]:
            if row["mean"] is not None:
                origin = f"spasemsr score, n {row['n']}{which}"
                unlike = [len(set(parts)) > 1 for parts in zip(*kinds[row["metric"]], strict=True)]
                implementation, version, weights, *more = kind_of(row)
                if any(unlike[:3]):
                    origin += f", {row['metric']} of {implementation} {version}, {weights}"
                origin += "".join(
                    f", {'no crop' if part == '0' else part}"
                    for part, differs in zip(more, unlike[3:], strict=True)
                    if differs and part
                )
                cells.append(Number(TABLE, record["method"], name, row["metric"], row["mean"], origin))
    return cells
