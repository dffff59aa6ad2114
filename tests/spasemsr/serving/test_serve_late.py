"""A person who does not wait for a late server, in Chromium: nothing that comes back undoes what was done since."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from spasemsr.serving import page
from spasemsr.serving.session import Session
from tests.spasemsr.serving.test_serve_browser import type_into
from tests.worlds.chromium import WITHOUT_BROWSER, browsing
from tests.worlds.tiny_upscaler import MAX_PIXELS, photograph

pytestmark = WITHOUT_BROWSER


class Late:
    """A page whose server works at once and answers when it is let; what it was asked for, and what it restored."""

    def __init__(self, upscaler: Any) -> None:
        self.session, self.let = Session(upscaler, MAX_PIXELS), threading.Event()
        self.let.set()
        self.begun: list[tuple[Any, ...]] = []
        self.restored: list[Any] = []
        for name in ("mark", "look", "restore"):
            setattr(self.session, name, self._late(getattr(self.session, name)))

    def _late(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def late(*given: Any) -> Any:
            self.begun.append((act.__name__, *given))
            try:
                done = act(*given)
                if act.__name__ == "restore":
                    self.restored.append(done)
                return done
            finally:
                assert self.let.wait(60)

        return late

    def drawn(self) -> list[tuple[Any, ...]]:
        return [given[2:] for given in self.begun if given[0] == "mark"]


@pytest.fixture
def late(upscaler) -> Iterator[Late]:
    yield Late(upscaler)


@pytest.fixture
def tab(late) -> Iterator[Any]:
    opened, where = page.start(late.session, "127.0.0.1", 0)
    try:
        with browsing() as tab:
            tab.goto(where)
            yield tab
    finally:
        late.let.set()
        opened.close()


def until(tab: Any, happened: Callable[[], Any]) -> None:
    for _ in range(600):
        if happened():
            return
        tab.wait_for_timeout(100)
    pytest.fail("it did not happen within a minute")


def cell(tab: Any, row: int, column: int) -> Any:
    return tab.locator("#objects [role=gridcell]").nth(6 * row + column)


def choose(tab: Any, name: str) -> None:
    """Draw a box in the picture and give it a name, which does not wait for the server either."""
    tab.get_by_label("draws a box: two corners").check()
    size = tab.locator("#marked img").bounding_box()
    for share in (0.3, 0.7):
        tab.locator("#marked img").click(position={"x": share * size["width"], "y": share * size["height"]})
    expect(tab.locator("#name input, #name textarea").first).to_have_value("object")
    tab.locator("#name input, #name textarea").first.fill(name)
    tab.keyboard.press("Enter")


def test_what_is_done_before_the_answers_come_stays(late, tab, photo):
    tab.set_input_files("#photograph input[type=file]", photo)
    tab.wait_for_selector("#marked img")
    expect(cell(tab, 0, 0)).not_to_be_empty()
    rows = tab.locator("#objects [role=gridcell]").count() // 6
    late.let.clear()

    type_into(tab, cell(tab, 0, 5), "1")
    tab.keyboard.press("Enter")
    choose(tab, "a helmet")
    tab.get_by_label("left out").check()
    type_into(tab, cell(tab, 0, 0), "a blue suit")
    tab.keyboard.press("Enter")
    tab.locator("#caption textarea").fill("noisy")
    type_into(tab, cell(tab, 0, 5), "0.7")  # and the cell is not left

    late.let.set()
    expect(cell(tab, rows, 5)).to_have_text("off")
    until(tab, lambda: late.drawn()[-1][0][0][0] == "a blue suit")
    tab.wait_for_timeout(2000)  # until every answer is shown
    tab.keyboard.press("Enter")
    expect(cell(tab, 0, 0)).to_contain_text("a blue suit")
    expect(cell(tab, 0, 5)).to_contain_text("0.7")
    expect(cell(tab, rows, 0)).to_contain_text("a helmet")
    expect(tab.locator("#caption textarea")).to_have_value("noisy")
    expect(tab.locator("#name input, #name textarea").first).to_have_value("a helmet")
    until(tab, lambda: str(late.drawn()[-1][0][0][5]) == "0.7")
    given, chosen, _corner = late.drawn()[-1]
    assert (given[0][0], given[rows][0], given[rows][5], chosen) == ("a blue suit", "a helmet", "off", rows)

    type_into(tab, cell(tab, 0, 0), "a suit")  # not left before the button is pressed
    tab.click("#remove")
    expect(tab.locator("#objects [role=gridcell]")).to_have_count(6 * rows)
    expect(cell(tab, 0, 0)).to_contain_text("a suit")


def test_a_row_that_is_no_box_is_said_and_what_came_meanwhile_is_drawn(late, tab, photo):
    tab.set_input_files("#photograph input[type=file]", photo)
    tab.wait_for_selector("#marked img")
    expect(cell(tab, 0, 0)).not_to_be_empty()
    drawn = tab.locator("#marked img").get_attribute("src")
    late.let.clear()
    for left in ("everywhere", "3"):  # the second comes while the first is still being drawn
        type_into(tab, cell(tab, 0, 1), left)
        tab.keyboard.press("Enter")
        until(tab, lambda: late.drawn()[-1][0][0][1] == "everywhere")
    late.let.set()
    expect(tab.get_by_text("must be numbers from 0 to 100").first).to_be_visible()
    expect(tab.locator("#marked img")).not_to_have_attribute("src", drawn)


class LastWordLate:
    """A network on which the end of a stream takes a second longer than everything else."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if b"close_stream" in message.get("body", b""):
                await asyncio.sleep(1)
            await send(message)

        await self._app(scope, receive, sending)


def test_what_is_asked_for_while_a_drawing_comes_back_is_not_lost_with_it(upscaler, photo, monkeypatch):
    monkeypatch.setattr(page, "_Policy", LastWordLate)
    opened, where = page.start(Session(upscaler, MAX_PIXELS), "127.0.0.1", 0)
    try:
        with browsing() as tab:
            tab.goto(where)
            tab.set_input_files("#photograph input[type=file]", photo)
            tab.wait_for_selector("#marked img")
            tab.wait_for_timeout(2000)
            drawn = tab.locator("#marked img").get_attribute("src")
            choose(tab, "a helmet")
            expect(tab.locator("#marked img")).not_to_have_attribute("src", drawn)
            tab.click("#restore")
            expect(tab.locator("#summary")).to_contain_text(re.compile("192 × 192|Error"), timeout=60_000)
            assert "Error" not in tab.locator("#summary").inner_text(), tab.locator(".toast-wrap").all_inner_texts()
    finally:
        opened.close()


def test_another_photograph_takes_the_place_of_the_one_that_is_being_restored(late, tab, photo, tmp_path):
    other = tmp_path / "other.png"
    photograph(40, 40).save(other)
    tab.set_input_files("#photograph input[type=file]", photo)
    tab.wait_for_selector("#marked img")
    late.let.clear()
    tab.click("#restore")
    until(tab, lambda: late.restored)  # it is only not yet shown
    tab.click("#photograph button[aria-label=Clear]")
    tab.set_input_files("#photograph input[type=file]", other)
    expect(tab.locator("#marked img")).to_have_count(0)
    late.let.set()
    tab.wait_for_selector("#marked img")
    tab.wait_for_timeout(2000)
    expect(tab.locator("#result img")).to_have_count(0)
    expect(tab.locator("#download")).to_be_disabled()
    tab.click("#restore")
    expect(tab.locator("#summary")).to_contain_text("160 × 160")
    with tab.expect_download() as download:
        tab.click("#download")
    assert download.value.suggested_filename == "other_x4.png"


def test_a_photograph_after_one_that_cannot_be_read_is_looked_at(late, tab, photo, tmp_path):
    late.let.clear()
    (tmp_path / "text.png").write_text("no picture")
    tab.set_input_files("#photograph input[type=file]", tmp_path / "text.png")
    until(tab, lambda: late.begun)
    tab.click("#photograph button[aria-label=Clear]")
    tab.set_input_files("#photograph input[type=file]", photo)
    tab.wait_for_timeout(2000)
    late.let.set()
    tab.wait_for_selector("#marked img")
    expect(cell(tab, 0, 0)).not_to_be_empty()
