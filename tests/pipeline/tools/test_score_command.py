"""`spasemsr score` on folders made by other code: the numbers, the defects of published scripts, the treatments."""

import csv
import json
import os
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.tools import experiment
from pipeline.tools.baseline import run as baseline
from pipeline.tools.score import Request, run
from spasemsr.errors import UserError
from spasemsr.evaluation import perceptual
from spasemsr.evaluation.folders import index
from spasemsr.evaluation.metrics import build_metrics, psnr_y, ssim_y
from spasemsr.images.results import Neighbours
from spasemsr.images.stored import read_scored
from tests.worlds.sample_report import photograph

SIDE = 64


def png(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), sigma)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Three pairs whose sorted order by name is not the order in which they were written."""
    for number, name in enumerate(("b", "a", "c10")):
        hr = photograph("chelsea.png", 10 * number, 40, SIDE)
        png(tmp_path / "hr" / f"{name}.png", hr)
        png(tmp_path / "out" / f"{name}.png", blurred(hr, 1 + number))
    return tmp_path / "out", tmp_path / "hr"


def ask(folders: tuple[Path, Path], **more) -> list[str]:
    return list(run(Request(*folders, **more)))


def test_means_per_image_scores_and_provenance(folders, tmp_path):
    lines = ask(folders, method="blur", csv=tmp_path / "a.csv", json=tmp_path / "a.json")
    pairs = [tuple(read_scored(folder / f"{key}.png").pixels for folder in folders) for key in ("a", "b", "c10")]
    means = [np.mean([score(*pair) for pair in pairs]) for score in (psnr_y, ssim_y)]
    assert f"{means[0]:.4f}" in lines[1] and f"{means[1]:.4f}" in lines[2]
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["a", "b", "c10"]
    assert [float(row["psnr"]) for row in rows] == pytest.approx([psnr_y(*pair) for pair in pairs], abs=1e-6)
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["set"]["n"] == 3 and len(record["set"]["keys_sha256"]) == 64 and record["method"] == "blur"
    assert [row["mean"] for row in record["rows"]] == pytest.approx(means, abs=1e-6)
    assert all(
        row[part] not in (None, "") for row in record["rows"] for part in ("weights", "colour_space", "protocol")
    )


def test_threads_change_nothing(folders, tmp_path):
    for workers in (1, 4):
        ask(folders, csv=tmp_path / f"{workers}.csv", workers=workers)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "4.csv").read_bytes()


# The defects listed at the end of protocol.md, each as published scripts have it.


def test_defect_pairs_by_position(folders):
    """A renamed output still sorts to the same place; by position it would be scored against another image."""
    (folders[0] / "b.png").rename(folders[0] / "bb.png")
    with pytest.raises(UserError, match=r"lacks 1 of 3 keys \(b\) and has 1 key too many \(bb\)") as error:
        ask(folders)
    assert "--partial, without --set, scores the 2 that have a partner" in error.value.remedy


def test_defect_unreadable_files_counted_in_the_divisor(folders):
    data = (folders[0] / "b.png").read_bytes()
    (folders[0] / "b.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"out/b\.png cannot be scored, truncated"):
        ask(folders)


@pytest.mark.parametrize("part", [0, 1])
def test_defect_a_failed_image_vanishes_from_the_mean(folders, part):
    (folders[part] / "b.png").unlink()
    with pytest.raises(UserError, match="lacks 1 of 3" if part == 0 else "has 1 key too many"):
        ask(folders)
    png(folders[part] / "b.png", np.zeros((SIDE, SIDE - 1, 3), np.uint8))
    with pytest.raises(UserError, match=r"b\.png has 6[34]x64 pixels, its hr 6[34]x64"):
        ask(folders)


@pytest.mark.parametrize("name", ["maniqa", "maniqa-pipal", "musiq", "dists"])
def test_defect_one_name_with_two_weights(name):
    """What pyiqa loads under a name is what our row of that name states; pyiqa changed maniqa's weights once."""
    from pyiqa.archs import dists_arch, maniqa_arch, musiq_arch
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    options = DEFAULT_CONFIGS[name]["metric_opts"]
    asked = {
        "maniqa": lambda: maniqa_arch.default_model_urls[options.get("train_dataset", "pipal")],
        "maniqa-pipal": lambda: maniqa_arch.default_model_urls[options.get("train_dataset", "pipal")],
        "musiq": lambda: musiq_arch.default_model_urls[options.get("pretrained", "koniq10k")],
        "dists": lambda: dists_arch.default_model_urls["url"],
    }[name]()
    stated = [file.name for file in perceptual.METRICS[name].files if file.folder == "pyiqa"]
    assert [asked.rsplit("/", 1)[1]] == stated
    others = [file.name for other, metric in perceptual.METRICS.items() if other != name for file in metric.files]
    assert stated[0] not in others


def test_defect_two_weights_in_one_column(tmp_path, monkeypatch):
    """Scores by other weights, or by another release of the metric, never stand in one column of the tables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "measured", list)
    experiment.SCORES.mkdir(parents=True)
    same = {"metric": "psnr", "weights": "none", "implementation": "ours", "version": "1", "mean": 25.0, "n": 3}
    for method, weights, version in (
        ("A", "koniq", "1"),
        ("B", "pipal", "1"),
        ("C", "koniq", "2"),
        ("D", "koniq", "1"),
    ):
        learned = {"metric": "maniqa", "weights": weights, "implementation": "pyiqa", "version": version, "mean": 0.5}
        record = {"method": method, "set": {"name": "realsr"}, "rows": [same, {**learned, "n": 3}]}
        (experiment.SCORES / f"{method}.json").write_text(json.dumps(record))
    columns: dict[tuple[str, str], list[str]] = {}
    for number in experiment.numbers():
        columns.setdefault((number.metric, number.origin), []).append(number.method)
    assert sorted(columns.values()) == [["A", "B", "C", "D"], ["A", "D"], ["B"], ["C"]]
    assert any("pipal" in origin for _, origin in columns) and any("pyiqa 2" in origin for _, origin in columns)


def test_defect_rgb_psnr_under_a_ycbcr_heading(folders, tmp_path):
    output, hr = (read_scored(folder / "a.png").pixels for folder in folders)
    rgb = 10 * np.log10(255**2 / np.mean((output.astype(float) - hr) ** 2))
    assert abs(psnr_y(output, hr) - rgb) > 0.5
    for folder in folders:
        for name in ("b", "c10"):
            (folder / f"{name}.png").unlink()
    line = ask(folders)[1]
    assert "Y of YCbCr" in line and line.split()[1] == f"{psnr_y(output, hr):.4f}" != f"{rgb:.4f}"


# Inputs that are not 8-bit RGB.


def rgb16(path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(path), picture.astype(np.uint16)[..., ::-1] * 257)


def test_defined_treatments_are_applied_and_recorded(folders, tmp_path):
    exact = ask(folders)[1:3]
    a, b, c = (read_scored(folders[0] / f"{name}.png").pixels for name in ("a", "b", "c10"))
    rgb16(folders[0] / "a.png", a)
    png(folders[0] / "b.png", np.dstack([b, np.full(b.shape[:2], 255, np.uint8)]))
    Image.fromarray(c).save(folders[0] / "c10.png", icc_profile=b"not a profile")
    lines = ask(folders, csv=tmp_path / "a.csv")
    assert lines[1:3] == exact
    assert [line.split()[1] for line in lines[3:-1]] == ["16_bit", "opaque_alpha", "icc_ignored"]
    with (tmp_path / "a.csv").open() as file:
        assert [row["note"] for row in csv.DictReader(file)] == ["16_bit", "opaque_alpha", "icc_ignored"]


def test_sixteen_bits_round_instead_of_dropping_the_low_byte(tmp_path):
    values = np.arange(0, 65536, 16).reshape(64, 64)
    cv2.imwrite(str(tmp_path / "colour.png"), np.dstack([values] * 3).astype(np.uint16))
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "gray.png")
    for name in ("colour", "gray"):
        decoded = read_scored(tmp_path / f"{name}.png")
        assert np.array_equal(decoded.pixels[..., 0], np.rint(values / 257)) and "16_bit" in decoded.treatments


def gray_float(path: Path, value: float) -> None:
    Image.fromarray(np.full((SIDE, SIDE), value, np.float32)).save(path)


def rgb_float(path: Path, value: float) -> None:
    cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), value, np.float32))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda p: png(p.with_suffix(".png"), np.full((SIDE, SIDE, 4), 128, np.uint8)), "transparent pixels"),
        (lambda p: gray_float(p.with_suffix(".tif"), float("nan")), "floats with NaN"),
        (lambda p: gray_float(p.with_suffix(".tif"), 0.5), "holds floats"),
        (lambda p: rgb_float(p.with_suffix(".tif"), float("nan")), "floats: it holds floats"),
        (lambda p: rgb_float(p.with_suffix(".tif"), 0.5), "floats: it holds floats"),
        (lambda p: Image.new("CMYK", (SIDE, SIDE)).save(p.with_suffix(".jpg")), "colour mode is CMYK"),
        (lambda p: p.with_suffix(".png").write_bytes(b""), "no bytes"),
        (lambda p: Image.new("RGB", (SIDE, SIDE)).save(p.with_suffix(".gif")), "format that is not scored"),
        (lambda p: Image.new("RGB", (SIDE, SIDE)).save(p.with_suffix(".jpg")), "a.jpg and a.png have the same key"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(folders, write, said):
    if "same key" not in said:
        (folders[0] / "a.png").unlink()
    write(folders[0] / "a")
    with pytest.raises(UserError, match=said) as error:
        ask(folders)
    assert "a." in error.value.what and error.value.remedy


def test_constant_images_have_psnr_and_ssim_and_say_that_niqe_has_none(tmp_path):
    for name, value in (("a", 0), ("b", 90)):
        png(tmp_path / "hr" / f"{name}.png", photograph("chelsea.png"))
        png(tmp_path / "out" / f"{name}.png", np.full((192, 192, 3), value, np.uint8))
    lines = ask((tmp_path / "out", tmp_path / "hr"), metrics=("psnr", "ssim", "niqe"))
    assert "undefined" in lines[3] and "without 2: a, b" in lines[3] and "constant in 2 images" in lines[-2]
    assert "nan" not in lines[1] + lines[2]


def test_unavailable_metrics_are_listed_not_dropped(folders, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    lines = ask(folders, metrics=("psnr", "fid", "maniqa-pipal"), json=tmp_path / "a.json")
    told = {line.split()[0]: line for line in lines if "unavailable" in line}
    assert told.keys() == {"fid", "maniqa-pipal"}
    assert "3 images are too few" in told["fid"]
    assert "needs MANIQA_PIPAL-ae6d356b.pth" in told["maniqa-pipal"]
    assert f"Put it into {tmp_path / 'empty' / 'hub' / 'pyiqa'}" in told["maniqa-pipal"]
    assert json.loads((tmp_path / "a.json").read_text())["unavailable"].keys() == told.keys()
    with pytest.raises(UserError, match=r"No metric is left to compute\. fid: .*too few"):
        ask(folders, metrics=("fid",))


def test_without_hr_only_metrics_that_need_none(folders):
    with pytest.raises(UserError, match="nothing to compare"):
        ask((folders[0], None))


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_folders_without_pictures(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match="no folder" if folder == "absent" else "no pictures"):
        index(tmp_path / folder, "outputs")


def test_what_cannot_be_written_is_said_before_scoring(folders, tmp_path):
    """Of the last two permissions say nothing: a name that is too long, a link to nowhere."""
    (tmp_path / "link.csv").symlink_to("/proc/nowhere.csv")
    below_a_file = folders[1] / "a.png" / "scores.csv"
    for target in (tmp_path, below_a_file, tmp_path / ("n" * 300), tmp_path / "link.csv"):
        for part in ("csv", "json"):
            with pytest.raises(UserError, match="cannot be written"):
                ask((tmp_path / "absent", folders[1]), **{part: target})


def test_a_named_set_that_is_not_here_says_where_to_get_it(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("drealsr", "reallr200"):
        with pytest.raises(UserError, match=f"no folder data/testsets/{name}") as error:
            ask((folders[0], None), test_set=name)
        assert "https://" in error.value.remedy and ("--hr" in error.value.remedy) == (name == "drealsr")


def test_endings_that_are_no_part_of_the_key(tmp_path):
    for name in ("x_1_out.png", "x_2_out.png"):
        png(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    assert list(index(tmp_path, "outputs", ["", "_out"])) == ["x_1", "x_2"]


def test_bicubic_baseline_is_scored_like_any_other(tmp_path):
    hr = photograph("chelsea.png", side=128)
    png(tmp_path / "hr" / "a.png", hr)
    png(tmp_path / "lr" / "a.png", cv2.resize(hr, (32, 32), interpolation=cv2.INTER_AREA))
    list(baseline(tmp_path / "lr", tmp_path / "out", None, (), "cpu"))
    assert 15 < float(ask((tmp_path / "out", tmp_path / "hr"))[1].split()[1]) < 40
    with pytest.raises(UserError, match="not empty"):
        list(baseline(tmp_path / "lr", tmp_path / "out", None, (), "cpu"))
    for place in ("out/a.png", "out/a.png/new"):
        with pytest.raises(UserError, match="cannot be written"):
            list(baseline(tmp_path / "lr", tmp_path / place, None, (), "cpu"))


def test_metric_names_match_what_is_built():
    assert [metric.name for metric in build_metrics(["psnr", "ssim", "niqe"])] == ["psnr", "ssim", "niqe"]


# Names as people have them.


def test_an_accent_written_in_two_ways_is_one_key(tmp_path):
    hr = photograph("chelsea.png", side=SIDE)
    png(tmp_path / "hr" / unicodedata.normalize("NFC", "caf\u00e9.png"), hr)
    png(tmp_path / "out" / unicodedata.normalize("NFD", "caf\u00e9.png"), blurred(hr, 1))
    assert "1 images" in ask((tmp_path / "out", tmp_path / "hr"))[0]
    png(tmp_path / "out" / unicodedata.normalize("NFC", "caf\u00e9.png"), hr)
    with pytest.raises(UserError, match="the same key"):
        ask((tmp_path / "out", tmp_path / "hr"))


def test_a_name_that_is_no_utf8_is_refused_by_name(folders):
    bad = Path(os.fsdecode(os.fsencode(folders[0]) + b"/caf\xe9.png"))
    png(folders[0] / "x.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    os.rename(folders[0] / "x.png", bad)
    with pytest.raises(UserError, match=r"the name caf\\xe9\.png is not UTF-8"):
        ask(folders)


def test_what_upscale_leaves_can_be_scored(tmp_path):
    from pipeline.tools import upscale
    from spasemsr.upscaling.settings import Settings
    from tests.worlds.instant_upscaler import InstantUpscaler

    for number in range(3):
        hr = photograph("chelsea.png", 10 * number, 40, SIDE)
        png(tmp_path / "hr" / f"img{number}.png", hr)
        png(tmp_path / "lr" / f"img{number}.png", hr[::4, ::4])
    for settings in (Settings(), Settings(width=SIDE)):
        out = tmp_path / settings.ending
        request = upscale.Request((str(tmp_path / "lr"),), out, settings, save_map=True)
        assert upscale.run(request, InstantUpscaler) == 0
        assert "3 images" in ask((out, tmp_path / "hr"))[0]
    assert list(index(tmp_path / "_x4", "outputs")) == ["img0", "img1", "img2"]


def test_results_with_sidecars_of_another_version_can_be_scored_and_are_not_called_ours(tmp_path):
    names = ("img0_x4.png", "img0_x4.map.png", "img1_x4.jpg", "img1_x4.jpg.map.png", "plain_x4.png")
    for name in names:
        png(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    for name in ("img0_x4.png", "img1_x4.jpg"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert list(index(tmp_path, "outputs")) == ["img0", "img1", "plain_x4"]
    assert not any(Neighbours(tmp_path).is_ours(tmp_path / name) for name in names)


def test_every_file_that_cannot_be_scored_is_named_at_once(folders):
    (folders[0] / "a.png").write_bytes(b"no picture")
    (folders[1] / "b.png").write_bytes((folders[1] / "b.png").read_bytes()[:-60])
    with pytest.raises(UserError, match=r"(?s)out/a\.png cannot be scored.*hr/b\.png cannot be scored"):
        ask(folders)
