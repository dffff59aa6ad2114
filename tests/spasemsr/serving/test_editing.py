"""What clicks and controls do to the table of objects: chosen, drawn, renamed, dialled, left out, removed."""

import numpy as np
import pytest

from spasemsr.serving.editing import (
    AS_THE_REST,
    ITS_OWN,
    LEFT_OUT,
    Edit,
    chosen_at,
    drawn_at,
    removed,
    renamed,
    strengthened,
)
from spasemsr.serving.session import Session, dials_of
from tests.worlds.tiny_upscaler import photograph, tiny_upscaler

ROWS = [
    ["wall", 0, 0, 100, 80, ""],
    ["door", "20", 20, 60, 60, "0.9"],
    ["", 20, 20, 30, 30, ""],
    ["sky", "?", 0, 9, 9, ""],
]


@pytest.mark.parametrize(
    ("point", "chosen"), [((50, 50), 1), ((25, 25), 1), ((80, 50), 0), ((50, 90), None), ((100, 80), 0)]
)
def test_a_click_chooses_the_smallest_object_around_it(point, chosen):
    assert chosen_at(Edit(ROWS, 2, (1.0, 1.0)), point) == Edit(ROWS, chosen)


def test_two_clicks_draw_a_box_which_is_chosen():
    half = drawn_at(Edit(ROWS), (70.0, 90.04))
    assert half == Edit(ROWS, None, (70.0, 90.04))
    whole = drawn_at(half, (30.0, 50.0))
    assert whole.rows == [ROWS[0], ROWS[1], ROWS[3], ["object", 30.0, 50.0, 70.0, 90.0, None]]
    assert whole.chosen == 3 and whole.name == "object" and whole.corner is None
    again = drawn_at(drawn_at(whole, (0.0, 0.0)), (10.0, 10.0))
    assert again.name == "object 2"
    assert drawn_at(half, (70.5, 10.0)) == Edit(ROWS)  # a slip: no box, and the corner is forgotten
    assert drawn_at(drawn_at(Edit([["", "", "", "", "", ""]]), (0.0, 0.0)), (9.0, 9.0)).chosen == 0


def test_the_chosen_object_is_renamed_dialled_left_out_and_removed():
    edit = Edit(ROWS, 1)
    assert edit.strength == (ITS_OWN, 0.9) and Edit(ROWS, 0).strength == Edit(ROWS).strength == (AS_THE_REST, 0.5)
    assert renamed(edit, " red\ndoor ").name == "red door" and renamed(edit, " ") == edit
    assert renamed(Edit(ROWS), "gate") == Edit(ROWS)
    sharp = strengthened(edit, ITS_OWN, 1.0)
    assert sharp.strength == (ITS_OWN, 1.0) and ROWS[1][5] == "0.9"
    assert strengthened(sharp, AS_THE_REST, 1.0).strength == (AS_THE_REST, 0.5)
    without = strengthened(sharp, LEFT_OUT, 1.0)
    assert without.strength == (LEFT_OUT, 0.5) and dials_of(without.rows[:2]) == (("door@0.2,0.2,0.6,0.6", "off"),)
    assert removed(without) == Edit([ROWS[0], *ROWS[2:]]) and removed(Edit(ROWS)) == Edit(ROWS)


def test_the_chosen_object_and_a_corner_are_shown(tmp_path):
    photograph(48, 48).save(tmp_path / "photo.png")
    actions, rows = Session(tiny_upscaler(), 10_000), [["a dog", 25, 25, 75, 75, ""]]
    plain, chosen, corner = (
        actions.mark(str(tmp_path / "photo.png"), edit)
        for edit in (Edit(rows), Edit(rows, 0), Edit(rows, None, (10.0, 90.0)))
    )
    actions.close()
    thicker = (plain != chosen).any(axis=2)
    assert thicker[160:480, 160:480].any() and not thicker[:150].any() and not thicker[170:470, 170:470].all()
    y, x = (places.mean() for places in np.nonzero((plain != corner).any(axis=2)))
    assert (x, y) == pytest.approx((64, 575), abs=1)
