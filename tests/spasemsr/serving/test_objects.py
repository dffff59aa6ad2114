"""What clicks and controls do to the table of objects, in Chromium: chosen, drawn, renamed, dialled, removed."""

from typing import Any

import pytest

from spasemsr.serving.controls import script, untouched
from spasemsr.serving.session import dials_of
from tests.worlds.chromium import WITHOUT_BROWSER, browsing

pytestmark = WITHOUT_BROWSER
ROWS = [
    ["wall", 0, 0, 100, 80, ""],
    ["door", "20", 20, 60, 60, "0.9"],
    ["", 20, 20, 30, 30, ""],
    ["sky", "?", 0, 9, 9, ""],
]
PICTURE = """<div id=marked style="position: absolute; left: 50px; top: 50px"><img style="width: 400px; height: 200px;
 object-fit: scale-down" src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='100' height='100'/>">
</div>"""


@pytest.fixture(scope="module")
def tab():
    with browsing() as opened:
        opened.set_content(script() + PICTURE)
        yield opened


class Hand:
    """A table and what clicks left behind, as the page has them between two events."""

    def __init__(self, tab: Any, rows: list[Any], **held: Any) -> None:
        self.tab, self.rows, self.held = tab, rows, untouched() | {"of": len(rows)} | held
        self.name, self.how, self.own = "", "rest", {}

    def does(self, act: str, *asked: Any) -> "Hand":
        call = "([act, data, held, asked]) => objects[act]({headers: [], data}, held, ...asked)"
        table, held, self.name, self.how, self.own = self.tab.evaluate(call, [act, self.rows, self.held, list(asked)])
        assert held["edition"] == self.held["edition"] + 1  # the picture is drawn again
        self.rows, self.held = table["data"] if table else self.rows, held
        return self

    def clicks(self, point: tuple[float, float], does: str = "choose") -> "Hand":
        """In percent of the picture, 100 pixels wide and high, in the middle of its frame."""
        self.tab.mouse.click(50 + 150 + point[0], 50 + 50 + point[1])
        return self.does("clicked", does)


@pytest.mark.parametrize(
    ("point", "chosen"), [((50, 50), 1), ((25, 25), 1), ((80, 50), 0), ((50, 90), None), ((99, 80), 0)]
)
def test_a_click_chooses_the_smallest_object_around_it(tab, point, chosen):
    hand = Hand(tab, ROWS, chosen=2, corner=[1, 1]).clicks(point)
    assert (hand.held["chosen"], hand.held["corner"], hand.held["place"]) == (chosen, None, list(point))
    assert hand.rows == ROWS


def test_two_clicks_draw_a_box_which_is_chosen(tab):
    half = Hand(tab, ROWS).clicks((70, 90), "draw")
    assert (half.rows, half.held["chosen"], half.held["corner"]) == (ROWS, None, [70, 90])
    half.clicks((30, 50), "draw")
    assert half.rows == [ROWS[0], ROWS[1], ROWS[3], ["object", 30, 50, 70, 90, None]]
    assert half.held["chosen"] == 3 and half.name == "object" and half.held["corner"] is None
    assert half.clicks((0, 0), "draw").clicks((10, 10), "draw").name == "object 2"
    slip = Hand(tab, ROWS, corner=[70, 90]).clicks((70, 10), "draw")  # no box, and the corner is forgotten
    assert slip.rows == ROWS and slip.held["corner"] is None
    assert Hand(tab, [[""] * 6]).clicks((1, 1), "draw").clicks((9, 9), "draw").held["chosen"] == 0


def test_the_chosen_object_is_renamed_dialled_left_out_and_removed(tab):
    hand = Hand(tab, ROWS).clicks((50, 50))
    assert (hand.name, hand.how, hand.own["value"], hand.own["visible"]) == ("door", "own", 0.9, True)
    assert hand.does("renamed", " red door ").rows[1][0] == hand.name == "red door"
    assert hand.does("renamed", " ").name == "red door"
    assert (hand.does("dialled", "own", 1).rows[1][5], hand.own["value"]) == (1, 1)
    assert (hand.does("dialled", "rest", 1).how, hand.own["visible"]) == ("rest", False)
    assert hand.does("dialled", "out", 1).how == "out"
    assert dials_of(hand.rows[:2]) == (("red door@0.2,0.2,0.6,0.6", "off"),)
    hand.does("removed")
    assert hand.rows == [ROWS[0], *ROWS[2:]] and hand.held["chosen"] is None and hand.name == ""
    for act in (["renamed", "gate"], ["dialled", "own", 1], ["removed"]):  # nothing is chosen
        assert hand.does(*act).rows == [ROWS[0], *ROWS[2:]] and hand.how == "rest"


def test_what_is_typed_in_the_table_keeps_the_choice_unless_a_row_comes_or_goes(tab):
    hand = Hand(tab, ROWS, chosen=1)
    hand.rows = [ROWS[0], ["gate", *ROWS[1][1:]], *ROWS[2:]]
    assert hand.does("typed").held["chosen"] == 1 and hand.name == "gate"
    hand.rows = hand.rows[1:]
    assert hand.does("typed").held["chosen"] is None and hand.name == ""


def test_what_was_seen_is_shown_with_its_own_photograph_and_beside_what_was_written_meanwhile(tab):
    call = "([table, held, caption, file, seen]) => objects.seen(table, held, caption, file, seen)"
    seen, empty = {"path": "/a.png", "rows": ROWS, "text": "blurred"}, {"headers": [], "data": []}

    def shown(caption: str, path: str) -> list[Any]:
        return tab.evaluate(call, [empty, untouched(), caption, {"path": path}, seen])

    caption, table, held, *_ = shown("", "/a.png")
    assert caption == "blurred" and table["data"] == ROWS and held["edition"] == 1
    caption, table, *_ = shown("noisy", "/a.png")
    assert caption is None and table["data"] == ROWS
    assert shown("", "/b.png") == []
