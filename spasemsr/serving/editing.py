"""What a click and the controls beside it do to the table of objects: values in, values out, as a page needs them.

A row is name, left, top, right and bottom in percent of the picture, and the object's own strength: a number from 0 to
1, OFF for an object that is left out, or nothing where it is as the rest. One object may be chosen; one corner of a new
box may be set. Rows are never changed in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from spasemsr.upscaling.settings import OFF, clean_text

Row = list[Any]
Point = tuple[float, float]  # from the left and from the top, in percent of the picture
How = Literal["as the rest", "its own", "left out"]
HOW: tuple[How, How, How] = get_args(How)
AS_THE_REST, ITS_OWN, LEFT_OUT = HOW
NEW = "object"  # until it is named
LEAST = 1.0  # percent of a side: a smaller box is a slip of the hand


@dataclass(frozen=True)
class Edit:
    """A table, the number of the chosen row from 0, and the first corner of a box that is being drawn."""

    rows: list[Row]
    chosen: int | None = None
    corner: Point | None = None

    @property
    def name(self) -> str:
        """The chosen object's."""
        return "" if self.chosen is None else clean_text(str(self.rows[self.chosen][0] or ""))

    @property
    def strength(self) -> tuple[How, float]:
        """How the chosen object is restored, and its own strength, 0.5 where it has none that can be read."""
        given: Any = None if self.chosen is None else self.rows[self.chosen][5]
        if given == OFF:
            return LEFT_OUT, 0.5
        try:
            strength = float(given)
        except (TypeError, ValueError):
            return AS_THE_REST, 0.5
        return (ITS_OWN, min(max(strength, 0.0), 1.0)) if strength == strength else (AS_THE_REST, 0.5)


def chosen_at(edit: Edit, point: Point) -> Edit:
    """Choose the smallest object around a point, or none."""
    around = [
        (area, number)
        for number, row in enumerate(edit.rows)
        if (area := _area_around(row, point)) is not None and clean_text(str(row[0] or ""))
    ]
    return Edit(edit.rows, min(around)[1] if around else None)


def drawn_at(edit: Edit, point: Point) -> Edit:
    """Set the first corner; with the second, a new object lies between them and is chosen."""
    if edit.corner is None:
        return replace(edit, corner=point)
    (x0, x1), (y0, y1) = (sorted(sides) for sides in zip(edit.corner, point, strict=True))
    if x1 - x0 < LEAST or y1 - y0 < LEAST:
        return replace(edit, corner=None)
    names = {row[0] for row in edit.rows}
    name = next(name for name in (NEW, *(f"{NEW} {n}" for n in range(2, len(names) + 3))) if name not in names)
    row = [name, *(round(side, 1) for side in (x0, y0, x1, y1)), None]
    rows = [each for each in edit.rows if clean_text(str(each[0] or ""))]  # an empty table has one empty row
    return Edit([*rows, row], len(rows))


def renamed(edit: Edit, name: str) -> Edit:
    """The chosen object under another name; an empty one changes nothing."""
    return _with(edit, 0, clean_text(name)) if clean_text(name) else edit


def strengthened(edit: Edit, how: How, strength: float) -> Edit:
    """The chosen object as the rest, with a strength of its own, or left out."""
    return _with(edit, 5, {AS_THE_REST: None, ITS_OWN: strength, LEFT_OUT: OFF}[how])


def removed(edit: Edit) -> Edit:
    """Without the chosen object."""
    return edit if edit.chosen is None else Edit([row for n, row in enumerate(edit.rows) if n != edit.chosen])


def _with(edit: Edit, column: int, value: Any) -> Edit:
    rows = [list(row) for row in edit.rows]
    if edit.chosen is not None:
        rows[edit.chosen][column] = value
    return replace(edit, rows=rows)


def _area_around(row: Sequence[Any], point: Point) -> float | None:
    """Of a row's box if the point is in it; a row that is no box is around nothing."""
    try:
        left, top, right, bottom = (float(side) for side in row[1:5])
    except (TypeError, ValueError):
        return None
    inside = left <= point[0] <= right and top <= point[1] <= bottom
    return (right - left) * (bottom - top) if inside else None
