"""The page in a real browser: the slider moves, boxes toggle, the table sorts, nothing is requested, nothing fails."""

import shutil

import pytest

from spasemsr.report.build import build_page
from tests.worlds.sample_report import sample_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OFFLINE = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
 --disable-component-update --disable-sync""".split()

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no browser on this machine; install one: apt-get install -y chromium"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    data = sample_report(folder)
    build_page(data, folder / "report.html", folder / "tradeoff.csv")
    return data, folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=OFFLINE)
        yield launched
        launched.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(browser, report, request):
    """The page, open; afterwards: it asked for nothing but itself and logged no error."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 500)
    opened = context.new_page()
    asked, failed = [], []
    opened.on("request", lambda sent: asked.append(sent.url))
    opened.on("console", lambda message: failed.append(message.text))
    opened.on("pageerror", lambda error: failed.append(str(error)))
    address = report[1].as_uri()
    opened.goto(address)
    yield opened
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert failed == [] and opened.title() == "A report"  # no script in a caption has run
    context.close()


def divider(page) -> float:
    """Where the stage's divider stands, as a share of the viewport's width."""
    area, line = (page.locator(f"#stage {part}").bounding_box() for part in (".viewport", ".divider"))
    return (line["x"] + line["width"] / 2 - area["x"]) / area["width"]


def test_every_picture_is_there_and_the_page_fits_the_screen(page):
    page.locator("#image-0 .picture").first.click()  # the closed dialog holds no pictures yet
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) == 3 * 6 + 4 and set(sizes) == {48, 192}
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every((image) => image.alt)")
    assert page.evaluate("getComputedStyle(document.querySelector('.pixels img')).imageRendering") == "pixelated"


def test_five_metrics_stand_side_by_side_without_scrolling(page):
    """The sample has three; the widest is there three times, beside the longest name of the default run."""
    if page.viewport_size["width"] < 1180:
        pytest.skip("a phone scrolls")
    widths = page.evaluate("""() => {
        const table = document.querySelector(".summary");
        for (const row of table.rows)
            row.cells[2].after(row.cells[2].cloneNode(true), row.cells[2].cloneNode(true));
        table.rows[1].cells[0].lastChild.textContent = "Real-ESRGAN x4plus";
        table.querySelectorAll("small").forEach((bounds) => (bounds.textContent = "0.5235–0.7868"));
        return [table.rows[0].cells.length, table.parentElement.scrollWidth - table.parentElement.clientWidth];
    }""")
    assert widths == [7, 0]


def test_slider_moves_by_pointer_and_by_keyboard(page):
    assert divider(page) == pytest.approx(0.5, abs=0.01)
    area = page.locator("#stage .viewport").bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.8 * area["width"], middle, steps=4)
    page.mouse.up()
    assert divider(page) == pytest.approx(0.8, abs=0.02)
    clip = page.evaluate("getComputedStyle(document.querySelector('#stage .clipped')).clipPath")
    assert clip.startswith("inset(0px 0px 0px 8") or "80" in clip
    page.locator("#stage .split").focus()
    page.keyboard.press("Home")
    assert divider(page) == pytest.approx(0.0, abs=0.01)


def test_pictures_of_the_stage_change_and_zoom(page):
    stage = page.locator("#stage")
    before = stage.locator(".right-picture").get_attribute("src")
    stage.locator("select.right").select_option("hr")
    assert stage.locator(".right-picture").get_attribute("src") != before
    assert "Ground truth" in stage.locator(".right-badge").inner_text()
    narrow = stage.locator(".right-picture").bounding_box()["width"]
    for _ in range(3):
        stage.get_by_label("Zoom in").click()
    assert stage.locator(".zoom output").inner_text() == "3×"
    assert stage.locator(".right-picture").bounding_box()["width"] == pytest.approx(3 * narrow, rel=0.01)
    name = stage.locator(".key").inner_text()
    stage.get_by_label("Next image").click()
    assert stage.locator(".key").inner_text() != name and stage.locator("select.right").input_value() == "hr"


def test_boxes_toggle_with_their_tags(page, report):
    boxes = page.locator("#images .box")
    assert boxes.count() == sum(len(example.objects["tags"]) for example in report[0].examples)
    assert boxes.first.is_visible() and boxes.first.inner_text() == "sky"
    toggle = page.locator("#toggle-boxes")
    toggle.click()
    assert not boxes.first.is_visible() and toggle.get_attribute("aria-pressed") == "false"
    toggle.click()
    assert boxes.first.is_visible()


def test_a_picture_opens_closely_and_closes(page):
    picture = page.locator("#image-1 .picture[data-name='restored']")
    picture.click()
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert dialog.locator(".key").inner_text() == page.locator("#image-1").get_attribute("data-key")
    assert "restored" in (dialog.locator("select.left").input_value(), dialog.locator("select.right").input_value())
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    picture.focus()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    dialog.get_by_label("Close").click()
    assert not dialog.is_visible()


def test_a_map_opens_over_the_result_that_it_is_of(page):
    stage = page.locator("#stage")
    assert stage.locator("select.right").input_value() == "spasemsr"  # maps are no method: not shown by themselves
    page.locator("#image-1 .picture[data-name='spasemsr.deviation']").click()
    dialog = page.locator("dialog")
    assert dialog.locator("select.left").input_value() == "spasemsr"
    assert dialog.locator("select.right").input_value() == "spasemsr.deviation"
    assert dialog.locator(".right-scores").inner_text() == "mean 1.50 grey levels"
    page.keyboard.press("Escape")


def test_table_sorts_both_ways_with_missing_values_last(page):
    def column(place):
        cells = page.locator("#image-table tbody tr").all()
        return [row.locator("td").nth(place).get_attribute("data-value") for row in cells]

    heading = page.locator("#image-table thead tr").nth(1).locator("th").first
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    values = [float(value) for value in column(0)]
    assert values == sorted(values, reverse=True) and len(set(values)) == 3
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in column(0)] == values[::-1]
    niqe_of_bicubic = page.locator("#image-table thead tr").nth(1).locator("th").nth(7)
    for _ in range(2):
        niqe_of_bicubic.locator("button").click()
        assert column(7)[-1] == "" and "" not in column(7)[:-1]
    names = page.locator("#image-table thead th").first
    names.locator("button").click()
    ordered = page.locator("#image-table tbody th").all_inner_texts()
    assert ordered == sorted(ordered) and names.get_attribute("aria-sort") == "ascending"


def test_plots_say_their_numbers(page):
    area = page.locator(".wide .area").first
    area.scroll_into_view_if_needed()
    spot = area.locator(".dot.mean").first.bounding_box()
    page.mouse.move(spot["x"], spot["y"])
    bubble = area.locator(".bubble")
    assert bubble.is_visible() and bubble.inner_text().startswith("SpaSemSR: PSNR-Y ")
    swept = page.locator(".wide .area").nth(1)
    swept.scroll_into_view_if_needed()
    spot = swept.locator(".dot.setting").first.bounding_box()
    page.mouse.move(spot["x"], spot["y"])
    assert swept.locator(".bubble").inner_text() == "dial 0: PSNR-Y 27.10, NIQE 9.40"
    curve = page.locator(".curves .area").first
    curve.scroll_into_view_if_needed()
    box = curve.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert curve.locator(".bubble").inner_text().startswith("step ")
    page.mouse.move(0, 0)
    assert not curve.locator(".bubble").is_visible()
