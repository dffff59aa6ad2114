"""A person's way through the page, photographed: `python docs/page_screenshot.py PHOTO docs/page.png`.

Needs Chromium and the extra `serve`; the weights are the nano ones.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from spasemsr.serving import page
from spasemsr.serving.session import Session
from spasemsr.upscaling.upscaler import Upscaler


def main(photo: Path, out: Path) -> None:
    """Upload, give an object a strength of its own, restore, and write what the browser shows as a PNG."""
    upscaler = Upscaler.from_pretrained("data/pretrained/nano")
    served, address = page.start(Session(upscaler, max_pixels=4_000_000), "127.0.0.1", 0)
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=found, args=["--headless", "--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1450})
        tab.set_default_timeout(600_000)
        tab.goto(address)
        tab.set_input_files("#photograph input[type=file]", photo)
        tab.wait_for_selector("#marked img")
        cells = tab.locator("#objects [role=gridcell]")
        expect(cells.first).not_to_be_empty()
        left, top, right, bottom = (float(cells.nth(column).inner_text()) / 100 for column in range(1, 5))
        marked = tab.locator("#marked img")
        size = marked.bounding_box()
        middle = {"x": (left + right) / 2 * size["width"], "y": (top + bottom) / 2 * size["height"]}
        marked.click(position=middle)
        expect(tab.locator("#name textarea, #name input").first).not_to_have_value("")
        tab.get_by_label("its own").check()
        expect(tab.locator("#own")).to_be_visible()
        tab.click("#restore")
        tab.wait_for_selector("#result img")
        expect(tab.locator("#summary")).to_contain_text("pixels")
        tab.wait_for_timeout(2000)
        tab.screenshot(path=out)
        browser.close()
    served.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
