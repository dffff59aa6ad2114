"""The page's bytes: self-contained, deterministic, escaped, within its budget; its plots' geometry."""

import base64
import hashlib
import io
import math
import re
from dataclasses import replace
from html import unescape
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from spasemsr.errors import UserError
from spasemsr.report import figures, pictures, view
from spasemsr.report.build import build_page
from spasemsr.report.view import differences, lede
from tests.worlds.sample_report import HOSTILE, sample_report


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    data = sample_report(folder)
    build_page(data, folder / "report.html", folder / "tradeoff.csv")
    return data, folder, (folder / "report.html").read_text()


def test_asks_the_network_for_nothing(built):
    _, _, html = built
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:|//|ftp:)|url\(|@import|fetch\(|XMLHttp""", html)
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1])
    assert "default-src 'none'" in policy and "img-src data:" in policy
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert [f"'sha256-{digest}'" for digest in digests] == re.findall(r"'sha256-[^']*'", policy)


def test_text_of_models_is_escaped(built):
    _, _, html = built
    assert HOSTILE not in html and "<img src=x" not in html
    assert unescape(html).count(HOSTILE) >= 3  # captions and tags are there, as text


def test_bytes_depend_on_the_input_alone(built, tmp_path):
    data, folder, html = built
    size = build_page(data, folder / "again.html", folder / "again.csv")
    assert (folder / "again.html").read_text() == html and size == len(html.encode())
    elsewhere = sample_report(tmp_path)
    build_page(elsewhere, tmp_path / "report.html", tmp_path / "tradeoff.csv")
    assert (tmp_path / "report.html").read_text() == html and str(folder) not in html
    assert (tmp_path / "tradeoff.csv").read_text().startswith("split,method,psnr,ssim,niqe,n\nval,spasemsr,")


def test_shows_the_means_pictures_and_links(built):
    data, folder, html = built
    for row in data.summary["rows"]:
        digits = 4 if row["metric"] == "ssim" else 2
        assert f">{row['mean']:.{digits}f}<" in html
    for example in data.examples:
        for path in (example.lr, *example.outputs.values(), example.hr):
            assert f'href="{path.relative_to(folder).as_posix()}"' in html
    uri = re.search(r'id="p0-hr" src="data:image/webp;base64,([^"]*)"', html)[1]
    first = min(data.examples, key=lambda example: example.key)
    embedded = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB"))
    assert np.array_equal(embedded, np.asarray(Image.open(first.hr)))  # few pictures: not one pixel is lost
    assert "embedded without loss" in html
    assert html.count(">Spread, SpaSemSR</a>") == 3 and "mean 1.50 grey levels" in html
    assert "3 images: luma spreads by 1.50 grey levels over noise seeds, and the reduced result is 2.25" in html
    assert "at r = 0.50" in html
    assert "SpaSemSR on samples held out of training, over steps" in html


def test_an_undefined_score_is_told_and_never_counted(built):
    data, _, html = built
    assert "NIQE leaves out" in html and ">undefined<" in html
    assert not re.search(r">\s*nan\b|NaN", re.sub(r"base64,[^\"]*", "", html))
    counts = {(row["method"], row["metric"]): row["n"] for row in data.summary["rows"]}
    assert counts["spasemsr", "niqe"] == 2 and counts["spasemsr", "psnr"] == 3


def test_a_difference_is_called_clear_only_with_enough_photographs(built):
    data, _, _ = built
    cells = [cell for part in differences(data) for line in part["lines"] for cell in line["cells"]]
    assert {cell["verdict"] for cell in cells} <= {"unclear", ""}  # two photographs prove nothing
    assert "not clearly different" in " ".join(lede(data))


def test_pictures_and_scores_must_match(built, tmp_path):
    data, folder, _ = built
    with pytest.raises(UserError, match="list of pictures of split 'val' lacks 1 of 3 keys"):
        replace(data, examples=data.examples[1:])
    without = [replace(data.examples[0], outputs={"bicubic": data.examples[0].outputs["bicubic"]}), *data.examples[1:]]
    with pytest.raises(UserError, match="has no picture of spasemsr, restored"):
        replace(data, examples=without)
    with pytest.raises(UserError, match="without a name on the page: restored"):
        replace(data, methods=data.methods[:2])
    lost = replace(data, examples=[replace(data.examples[0], lr=folder / "lost.png"), *data.examples[1:]])
    with pytest.raises(UserError, match=r"lost\.png does not exist"):
        build_page(lost, tmp_path / "report.html", tmp_path / "tradeoff.csv")


def test_a_report_of_lr_only_images_and_no_training(built, tmp_path):
    data, _, _ = built
    bare = [replace(example, hr=None, caption="", objects={}, degradation={}) for example in data.examples]
    bare = [replace(example, maps={}) for example in bare]
    part = replace(data, examples=bare, losses={}, validation={}, facts={}, provenance={}, ingest={}, sweep=(), maps={})
    build_page(part, tmp_path / "report.html", tmp_path / "tradeoff.csv")
    html = (tmp_path / "report.html").read_text()
    assert "No object was found" in html and "Training of" not in html and 'id="p0-hr"' not in html
    assert "grey levels" not in html and "Pareto" not in html


def test_a_report_without_metrics_shows_pictures_and_names(built, tmp_path):
    bare = replace(built[0], metrics=[])  # those of params.yaml may all need a package that is not installed
    build_page(bare, tmp_path / "report.html", tmp_path / "tradeoff.csv")
    assert view.featured(bare, bare.examples) == 0 and 'id="p0-hr"' in (tmp_path / "report.html").read_text()


def test_pictures_shrink_to_the_budget_all_alike(tmp_path):
    random, paths = np.random.default_rng(0), []
    for number in range(8):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(random.integers(0, 256, (160, 150, 3), dtype=np.uint8)).save(paths[-1])
    seen = []
    for budget in (10_000_000, 400_000, 200_000, 80_000):
        embedded, quality = pictures.embed_all([*paths, *paths], budget)
        assert sum(len(image.uri) for image in embedded.values()) <= budget and len(embedded) == 8
        assert {(image.width, image.height) for image in embedded.values()} == {(150, 160)}
        seen.append(pictures.LADDER.index(quality))
    assert seen == sorted(seen) and seen[0] == 0 and len(set(seen)) == 4
    with pytest.raises(UserError, match="8 pictures do not fit"):
        pictures.embed_all(paths, 5_000)


def test_many_examples_are_thinned_evenly():
    from spasemsr.report.build import _spread

    examples = [figure(number) for number in range(250)]
    shown = _spread(examples, 100)
    assert len(shown) == 100 and shown[0] is examples[0]
    places = [examples.index(example) for example in shown]
    assert {b - a for a, b in pairwise(places)} == {2, 3}


def figure(number):
    from spasemsr.report.data import Example

    return Example("val", f"{number:03d}", str(number), lr=None, outputs={})


def test_curve_geometry():
    rows = [{"step": str(step), "noise": str(1000 / step), "word": "x"} for step in range(1, 2001)]
    chart = figures.curve(rows, "noise", "spasemsr")
    assert len(chart.dots) <= figures.MAX_POINTS
    assert all(0 <= value <= 100 for dot in chart.dots for value in (dot.x, dot.y))
    assert chart.dots[-1].x == 100 and chart.dots[0].y < chart.dots[-1].y  # a falling loss falls on the page
    raw = next(stroke for stroke in chart.strokes if stroke.kind == "raw")
    assert re.fullmatch(r"M[-\d.]+ [-\d.]+(L[-\d.]+ [-\d.]+)+", raw.path())
    assert figures.curve(rows, "word", "spasemsr") is None
    level = figures.curve([{"step": 5, "noise": 2.0}], "noise", "spasemsr")  # one point, no range
    assert len(level.dots) == 1 and all(math.isfinite(tick.at) for tick in (*level.x_ticks, *level.y_ticks))


@pytest.mark.parametrize("values", [(0.21, 0.34), (24.0, 31.5), (-3.0, 4e4), (1e-5, 9e-5), (7.0, 7.0), (0.0, 0.0)])
def test_axes_hold_their_values_with_round_distinct_ticks(values):
    axis = figures._Axis.over(values)
    assert axis.low <= min(values) and axis.high >= max(values)
    ticks = axis.ticks()
    assert 3 <= len(ticks) <= 8 and len({tick.text for tick in ticks}) == len(ticks)
    for tick in ticks:
        assert axis.at(float(tick.text)) == pytest.approx(tick.at, abs=0.01)


def test_tradeoff_puts_the_better_method_lower_right():
    means = [
        figures.MeanPoint("a", "A", 24.0, 8.0, (23.0, 25.0), (7.0, 9.0)),
        figures.MeanPoint("b", "B", 26.0, 5.0, None, None),
    ]
    chart = figures.tradeoff(means, [("a", "image", 22.0, 8.5)], ("PSNR-Y", "NIQE"), ("Ground truth", 4.0))
    worse, better = (dot for dot in chart.dots if dot.kind == "mean")
    assert better.x > worse.x and better.y > worse.y
    assert [stroke.kind for stroke in chart.strokes] == ["reference", "whisker", "whisker"]


def test_boxes_stay_on_the_picture():
    found = figures.boxes({"tags": ["a", "b"], "boxes": [[0.25, 0.5, 0.75, 1.0], [-1, 0, 2, 1]], "scores": [0.9, 0.1]})
    assert (found[0].left, found[0].top, found[0].width, found[0].height) == (25, 50, 50, 50)
    assert (found[1].left, found[1].width, found[1].number) == (0, 100, 2)
    with pytest.raises(ValueError, match="zip"):
        figures.boxes({"tags": ["a"], "boxes": [], "scores": []})


def test_the_sweep_has_a_curve_per_setting_and_its_front(tmp_path):
    (plane,) = view.sweeps(sample_report(tmp_path))
    chart = plane["chart"]
    assert [stroke.kind for stroke in chart.strokes] == ["curve", "curve", "reference"]
    assert [len(stroke.points) for stroke in chart.strokes] == [4, 2, 4]  # the front: PSNR 26.2, 26.8, 27.0, 27.1
    assert chart.dots[0].text == "dial 0: PSNR-Y 27.10, NIQE 9.40" and plane["n"] == 3
    assert [dot.label for dot in chart.dots] == ["dial 0", "", "", "dial 1", "consistency 0", "consistency 1"]
    assert [label for _, label in plane["legend"]] == ["dial", "consistency", "Pareto front"]
