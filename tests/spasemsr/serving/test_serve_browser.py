"""A person's way through the page, in Chromium."""

import re
from typing import Any

from PIL import Image

from spasemsr.serving import session
from tests.worlds.chromium import WITHOUT_BROWSER, browsing


def type_into(tab: Any, cell: Any, text: str) -> None:
    """Write over a cell of the table; keys that come before its field has the focus would be lost."""
    from playwright.sync_api import expect

    cell.dblclick()
    expect(tab.locator("#objects textarea")).to_be_focused()
    tab.keyboard.press("Control+a")
    tab.keyboard.type(text)


@WITHOUT_BROWSER
def test_a_persons_way_through_the_page(address, photo, tmp_path, monkeypatch):
    from playwright.sync_api import expect

    asked, failed = [], []
    with browsing() as tab:
        tab.on("request", lambda sent: asked.append(sent.url))
        tab.on("pageerror", lambda error: failed.append(str(error)))
        tab.goto(address)

        (tmp_path / "text.png").write_text("no picture")
        tab.set_input_files("#photograph input[type=file]", tmp_path / "text.png")
        expect(tab.get_by_text("not JPEG, PNG, WebP, TIFF").first).to_be_visible(timeout=60_000)
        tab.click("#photograph button[aria-label=Clear]")

        tab.set_input_files("#photograph input[type=file]", photo)
        tab.wait_for_selector("#marked img")
        drawn = tab.locator("#marked img").get_attribute("src")
        tab.click("#stop")  # nothing is waited for, and nothing that is asked for later may be stopped by it
        cell = tab.locator("#objects [role=gridcell]").first
        expect(cell).not_to_be_empty()
        type_into(tab, cell, "a blue helmet")
        tab.keyboard.press("Enter")
        expect(tab.locator("#marked img")).not_to_have_attribute("src", drawn)
        expect(tab.locator("#caption textarea").first).not_to_have_value("")

        monkeypatch.setattr(session, "_beside", dict)
        tab.click("#marked img", position={"x": 40, "y": 40})
        tab.click("#preview")
        tab.wait_for_selector("#sheet img")

        tab.click("#restore")
        tab.wait_for_selector("#result img")
        expect(tab.locator("#summary")).to_contain_text("192 × 192")

        type_into(tab, tab.locator("#objects [role=gridcell]").nth(5), "1")
        tab.keyboard.press("Enter")
        tab.get_by_label("draws a box: two corners").check()
        marked = tab.locator("#marked img")
        size = marked.bounding_box()
        name = tab.locator("#name textarea, #name input").first
        for share, patience in ((0.6, 3_000), (0.9, 20_000), (0.6, 20_000), (0.9, 20_000)):
            marked.click(position={"x": share * size["width"], "y": share * size["height"]})
            try:  # a click while the picture is drawn again, for the strength above, is lost: any two make the box
                expect(name).to_have_value("object", timeout=patience)
                break
            except AssertionError:
                continue
        expect(name).to_have_value("object")
        tab.get_by_label("left out").check()
        expect(tab.locator("#objects [role=gridcell]").last).to_have_text("off", timeout=60_000)
        tab.click("#restore")
        summary = tab.locator("#summary")
        expect(summary).to_contain_text(re.compile("a blue helmet at 1 · object left out|Error"), timeout=120_000)
        assert "Error" not in summary.inner_text(), tab.locator(".toast-wrap").all_inner_texts()

        handle = tab.locator("#result [data-testid=slider] .icon-wrap")
        handle.scroll_into_view_if_needed()
        for _ in range(5):  # what is dragged while the new picture is still being laid out stays where it was
            before = handle.bounding_box()
            x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
            tab.mouse.move(x, y)
            tab.mouse.down()
            tab.mouse.move(x - 120, y, steps=6)
            tab.mouse.up()
            if moved := handle.bounding_box()["x"] < before["x"] - 60:
                break
            tab.wait_for_timeout(1000)
        assert moved

        with tab.expect_download() as download:
            tab.click("#download")
        download.value.save_as(tmp_path / "got.png")
        assert download.value.suggested_filename == "holiday_x4.png"
        assert Image.open(tmp_path / "got.png").size == (192, 192)
    assert failed == [] and asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
