"""The page: its actions without a browser, and its answers without a person."""

import os
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.commands import pictures
from pipeline.tools import upscale
from spasemsr.errors import UserError
from spasemsr.serving import page, session
from spasemsr.serving.session import Asked, Refusal, Session, boxes_of, dials_of
from spasemsr.upscaling.settings import Settings
from tests.worlds.tiny_upscaler import MAX_PIXELS, photograph, tiny_upscaler


@pytest.fixture
def actions(upscaler):
    opened = Session(upscaler, MAX_PIXELS)
    yield opened
    opened.close()


def ignore(done: int, total: int) -> None:
    pass


# Actions.


def test_looking_says_what_is_where(actions, photo):
    rows, caption = actions.look(str(photo))
    picture = actions.mark(str(photo), rows)
    assert max(picture.shape[:2]) == session.MARKED_SIDE and rows and caption
    for name, left, top, right, bottom, strength in rows:
        assert strength is None and name and 0 <= left < right <= 100 and 0 <= top < bottom <= 100
    bare = actions.mark(str(photo), [])
    assert not np.array_equal(bare, picture)
    inside = actions.mark(str(photo), [["a dog", 25, 25, 75, 75]]) != bare
    assert inside[150:490, 150:490].any() and not inside[:150].any() and not inside[490:].any()


def test_the_chosen_object_and_a_corner_are_shown(actions, photo):
    rows = [["a dog", 25, 25, 75, 75, ""]]
    plain, chosen, corner = (actions.mark(str(photo), rows, *held) for held in ((), (0,), (None, (10.0, 90.0))))
    thicker = (plain != chosen).any(axis=2)
    assert thicker[160:480, 160:480].any() and not thicker[:150].any() and not thicker[170:470, 170:470].all()
    y, x = (places.mean() for places in np.nonzero((plain != corner).any(axis=2)))
    assert (x, y) == pytest.approx((64, 575), abs=1)


def test_restoring_uses_what_the_table_says(actions, photo, tmp_path):
    rows, caption = actions.look(str(photo))
    shown = actions.restore(Asked(str(photo), rows, caption, Settings()), ignore)
    assert shown.before.shape == shown.after.shape == (192, 192, 3)
    assert shown.file.name == "holiday_x4.png" and Image.open(shown.file).size == (192, 192)
    assert "192 × 192" in shown.summary
    edited = [["a unicorn", *rows[0][1:]], *rows[1:]]
    other = actions.restore(Asked(str(photo), edited, caption, Settings()), ignore)
    assert not np.array_equal(other.after, shown.after)
    deep = tmp_path / "deep.tif"
    photograph(16, 12).convert("L").convert("I;16").save(deep)
    result = actions.restore(Asked(str(deep), [], "", Settings(scale=2)), ignore)
    assert Image.open(result.file).mode == "I;16" and result.file.name == "deep_x2.tif"


def test_another_method_is_loaded_when_it_is_chosen_and_once(upscaler, photo):
    loaded = []

    def other():
        loaded.append("other")
        return tiny_upscaler(input="restored")

    opened = Session(upscaler, MAX_PIXELS, others={"First": lambda: upscaler, "Other": other})
    assert opened.choices == ["First", "Other"] and not loaded
    first, same, second, again = (
        opened.restore(Asked(str(photo), [], "sharp", Settings(), chosen=label), ignore).after
        for label in ("", "First", "Other", "Other")
    )
    opened.close()
    assert loaded == ["other"] and np.array_equal(first, same) and np.array_equal(second, again)
    assert not np.array_equal(first, second)


def test_a_row_with_a_strength_of_its_own_has_it_in_its_box_alone(actions, photo):
    def restored(dial, strength=None):
        rows = [["wall", 0, 0, 100, 50, ""], ["door", 50, 50, 100, 100, strength]]
        return actions.restore(Asked(str(photo), rows, "", Settings(dial=dial)), ignore)

    plain, sharp, both = restored(0.2), restored(1.0), restored(0.2, "1")
    assert np.array_equal(both.after[:96], plain.after[:96]) and np.array_equal(both.after[:, :96], plain.after[:, :96])
    assert np.array_equal(both.after[130:, 130:], sharp.after[130:, 130:])
    assert not np.array_equal(plain.after[130:, 130:], sharp.after[130:, 130:])
    assert both.summary.endswith("door at 1")


def test_a_preview_shows_one_piece_with_what_the_table_says(actions, photo, monkeypatch):
    made = []
    monkeypatch.setattr(session, "_beside", dict)
    monkeypatch.setattr(session.preview, "SIDE", 16)  # lr pixels

    def compared(rows, at):
        return actions.compare(Asked(str(photo), rows, "sharp", Settings()), lambda *done: made.append(done), at=at)

    first = compared([["door", 0, 0, 100, 100, 1]], (0.0, 0.0))
    assert made == [(done, 5) for done in range(1, 6)] and min(first.shape[:2]) > 64
    assert np.array_equal(compared([["wall", 60, 60, 100, 100], ["door", 0, 0, 99, 99]], (0.0, 0.0)), first)
    for changed in (compared([], (0.0, 0.0)), compared([["door", 0, 0, 100, 100]], (1.0, 1.0))):
        assert changed.shape == first.shape and not np.array_equal(changed, first)
    with pytest.raises(Refusal, match="Stopped"):
        actions.compare(Asked(str(photo), [], "", Settings(), visitor="me"), lambda *_: actions.stop("me"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["dog", 0, 0, 9, 9, 2]], r"Row 1 \(dog\): its own strength"),
        ([["dog", 0, 0, 9, 9, "much"]], r"Row 1 \(dog\): its own strength"),
    ],
)
def test_other_strengths_are_named(rows, message):
    with pytest.raises(Refusal, match=message):
        dials_of(rows)


def test_a_strength_is_of_its_own_row_alone():
    rows = [["dog", 0, 0, 50, 50, None], ["dog", 50, 0, 100, 50, 1], ["", 0, 0, 9, 9, 1], ["c@t", 0, 0, 9, 9, "off"]]
    assert dials_of(rows) == (("dog@0.5,0,1,0.5", 1.0), ("c t@0,0,0.09,0.09", "off"))


def test_rows_become_boxes_in_order():
    boxes = boxes_of([["dog", "90", 10, 20, 60.0], ["", 0, 0, 0, 0], [None, 1, 2, 3, 4], ["sky", -5, 0, 300, 50]])
    assert [(box.tag, box.xyxy) for box in boxes] == [("dog", (0.2, 0.1, 0.9, 0.6)), ("sky", (0.0, 0.0, 1.0, 0.5))]
    assert boxes[0].score > boxes[1].score


@pytest.mark.parametrize("row", [["dog", "left", 0, 1, 1], ["dog", 5, 5, 5, 9], ["dog", None, 0, 1, 1]])
def test_rows_that_are_no_box_are_named(row):
    with pytest.raises(Refusal, match=r"Row 2 \(dog\)"):
        boxes_of([["cat", 0, 0, 9, 9], row])


def test_what_cannot_be_used_is_said_in_a_sentence(actions, tmp_path):
    Image.new("RGB", (400, 400)).save(tmp_path / "large.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (2, 2)).save(tmp_path / "dot.png")
    for name, told in (("large.png", "up to 0.1 million pixels"), ("text.png", "not JPEG"), ("dot.png", "2x2")):
        with pytest.raises(Refusal, match=told):
            actions.look(str(tmp_path / name))


def by_me(actions: Session, photo: Path) -> Asked:
    """Something that a visitor asks for now."""
    return Asked(str(photo), [], "", Settings(), visitor="me", turn=actions.begin())


def test_a_visitor_can_stop(actions, photo):
    with pytest.raises(Refusal, match="Stopped"):
        actions.restore(by_me(actions, photo), lambda *_: actions.stop("me"))
    assert actions.restore(by_me(actions, photo), ignore).file.exists()


def test_a_stop_before_its_turn_ends_what_was_asked_for_and_nothing_later(actions, photo):
    for ask in (actions.restore, actions.compare):
        asked = by_me(actions, photo)
        actions.stop("me")  # another visitor's picture is being restored
        with pytest.raises(Refusal, match="Stopped"):
            ask(asked, lambda *_: pytest.fail("it was begun"))
    assert actions.restore(by_me(actions, photo), ignore).file.exists()


def test_what_is_asked_for_after_a_stop_does_not_revoke_it(actions, photo):
    """A click on another button, while a long call of the network has not yet ended."""
    later = []

    def stop_and_ask(done: int, total: int) -> None:
        if not later:
            actions.stop("me")
            later.append(by_me(actions, photo))

    with pytest.raises(Refusal, match="Stopped"):
        actions.restore(by_me(actions, photo), stop_and_ask)
    assert actions.restore(later[0], ignore).file.exists()


def test_only_the_latest_results_are_kept(actions, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "KEPT_RESULTS", 2)
    photograph(8, 8).save(tmp_path / "small.png")
    results = [
        actions.restore(Asked(str(tmp_path / "small.png"), [], "", Settings(seed=seed)), ignore).file
        for seed in range(3)
    ]
    assert [path.parent.exists() for path in results] == [False, True, True]


# Served.


def test_the_page_is_for_this_machine_and_asks_no_other(address):
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as answer:
        policy, text = answer.headers["content-security-policy"], answer.read().decode()
    assert "default-src 'self'" in policy and "connect-src 'self'" in policy
    assert "fonts.googleapis" not in text and "fonts.gstatic" not in text


@pytest.mark.parametrize("form", [str.lower, str.upper])
def test_a_proxy_is_not_asked_for_the_page_itself(upscaler, monkeypatch, form):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(form(name), "http://127.0.0.1:9")  # nobody answers there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "intranet.example")
    opened, where = page.start(Session(upscaler, MAX_PIXELS), "127.0.0.1", 0)
    try:
        assert urllib.request.urlopen(where).status == 200
        assert os.environ["no_proxy"].startswith("intranet.example,")
    finally:
        opened.close()


def test_a_taken_port_is_said(upscaler):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="--port"):
            page.start(Session(upscaler, MAX_PIXELS), "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(UserError, match=r"already in use\.\nTake another --port"):
            pictures.serve(port=taken.getsockname()[1])


def test_a_host_that_is_not_this_machine_is_said_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(upscale, "load", None)
    for host in ("nosuchhost.invalid", "..", "192.0.2.1"):
        with pytest.raises(UserError, match=rf"served on {host}:0: .*\nTake --host 127\.0\.0\.1"):
            pictures.serve(host=host, port=0)
