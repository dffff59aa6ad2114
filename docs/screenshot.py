"""A report page as a picture for the documentation: python docs/screenshot.py reports/report.html docs/report.png TAG

Drives the Chromium of this machine without a network, as a reader would: looks for the picture on which something is
called TAG, moves its slider and shows its boxes.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1100, "height": 1640}


def main(page_file: Path, picture: Path, tag: str) -> None:
    """Write the upper part of the page as a PNG of 256 colours, those of small dots among them."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("No Chromium on this machine: apt-get install -y chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = launched.new_page(viewport=SIZE)
        page.goto(page_file.resolve().as_uri())
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        page.locator("#stage .boxes").click()
        for _ in range(page.locator("#images .card").count()):
            if tag in page.locator("#stage .box b").all_inner_texts():
                break
            page.locator("#stage .next").click()
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        area = page.locator("#stage .viewport").bounding_box()
        page.mouse.click(area["x"] + 0.4 * area["width"], area["y"] + area["height"] / 2)
        page.mouse.move(0, 0)
        shot = page.screenshot()
        launched.close()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
