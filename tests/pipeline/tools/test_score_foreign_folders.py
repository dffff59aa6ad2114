"""`spasemsr score` on folders as other codes leave them: what pairs, what is left out and said, what is refused."""

import csv
import json
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.tools import experiment
from pipeline.tools.baseline import run as baseline
from pipeline.tools.score import Request, run
from spasemsr.errors import UserError
from spasemsr.evaluation import fid
from spasemsr.evaluation.folders import index
from spasemsr.evaluation.metrics import psnr_y
from spasemsr.pixels import write_png
from tests.worlds.sample_report import photograph

SIDE = 64
KEYS = ("a", "b", "c", "d", "e")


def hr_of(place: int) -> np.ndarray:
    return photograph("chelsea.png", 40 * (place % 3), 60 * place, SIDE)


def result_of(place: int) -> np.ndarray:
    return cv2.GaussianBlur(hr_of(place), (0, 0), 1.5)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    for folder in ("out", "hr"):
        (tmp_path / folder).mkdir()
    for place, key in enumerate(KEYS):
        write_png(tmp_path / "hr" / f"{key}.png", hr_of(place))
        write_png(tmp_path / "out" / f"{key}.png", result_of(place))
    return tmp_path / "out", tmp_path / "hr"


def ask(folders: tuple[Path, Path | None], **more) -> list[str]:
    return list(run(Request(*folders, **more)))


# Pairs by name that are no pairs.


def test_results_in_another_order_are_refused(folders):
    for place, key in enumerate(KEYS):
        write_png(folders[0] / f"{key}.png", result_of((place + 1) % len(KEYS)))
    with pytest.raises(UserError, match=r"5 of 5 results look like the hr of other keys \(a like that of b, b like"):
        ask(folders)


def test_two_exchanged_results_are_scored_and_said(folders, tmp_path):
    write_png(folders[0] / "a.png", result_of(1))
    write_png(folders[0] / "b.png", result_of(0))
    lines = ask(folders, csv=tmp_path / "a.csv", json=tmp_path / "a.json")
    assert [line for line in lines if line.startswith("strange")] == [
        "strange  a: looks like the hr of b",
        "strange  b: looks like the hr of a",
    ]
    assert json.loads((tmp_path / "a.json").read_text())["strange"].keys() == {"a", "b"}
    with (tmp_path / "a.csv").open() as file:
        assert [row["note"] for row in csv.DictReader(file)][:3] == [
            "looks like the hr of b",
            "looks like the hr of a",
            "",
        ]


def test_a_result_on_its_side_is_said(folders):
    write_png(folders[0] / "c.png", np.ascontiguousarray(np.rot90(result_of(2))))
    assert "strange  c: does not look like its hr" in ask(folders)


def test_pictures_that_are_flat_are_not_judged(folders):
    for folder, level in zip(folders, (90, 91), strict=True):
        write_png(folder / "a.png", np.full((SIDE, SIDE, 3), level, np.uint8))
    assert not any(line.startswith("strange") for line in ask(folders))


def test_hr_compared_with_itself_is_refused(folders):
    with pytest.raises(UserError, match="the same folder"):
        ask((folders[1], folders[1]))


# Names.


@pytest.mark.parametrize("stacked", [False, True])
def test_the_advised_ending_makes_them_pair(folders, stacked):
    for path in sorted(folders[0].iterdir()):
        path.rename(path.with_name(f"{path.stem}_LR4{'_out' if stacked else ''}.PNG"))
    for path in sorted(folders[1].iterdir()):
        path.rename(path.with_name(f"{path.stem}_HR.png"))
    ending = "_LR4_out" if stacked else "_LR4"
    with pytest.raises(UserError) as error:
        ask(folders)
    assert f"--strip _HR --strip {ending} takes these endings off" in error.value.remedy
    assert "5 images" in ask(folders, strip=("_HR", ending))[0]
    assert "5 images" in ask(folders, strip=("_out", "_HR", "_LR4"))[0]


@pytest.mark.parametrize("part", [0, 1])
def test_pictures_in_folders_below_are_named(folders, part):
    for name in ("sample00", "sample01"):
        (folders[part] / name).mkdir()
        for key in KEYS:
            (folders[part] / name / f"{key}.png").write_bytes((folders[part] / f"{key}.png").read_bytes())
    if part == 0:
        assert "left out pictures in folders below: 5 in sample00, 5 in sample01" in ask(folders)
    for key in KEYS:
        (folders[part] / f"{key}.png").unlink()
    with pytest.raises(UserError, match=r"no pictures in .*, but 5 in sample00, 5 in sample01"):
        ask(folders)


def test_a_name_that_steers_a_terminal_is_a_key_that_does_not(folders, tmp_path):
    for folder in folders:
        (folder / "a.png").rename(folder / "a\x1b[31m\n.png")
    ask(folders, csv=tmp_path / "a.csv")
    with (tmp_path / "a.csv").open() as file:
        assert [row["key"] for row in csv.DictReader(file)] == ["a\\x1b[31m\\x0a", *KEYS[1:]]
    (folders[1] / "a\x1b[31m\n.png").unlink()
    assert "left out a\\x1b[31m\\x0a: has no hr" in ask(folders, partial=True)


def test_an_ending_is_one_however_its_accent_is_written(tmp_path):
    write_png(tmp_path / unicodedata.normalize("NFD", "x_\u00e9.png"), np.zeros((8, 8, 3), np.uint8))
    for form in ("NFC", "NFD"):
        assert list(index(tmp_path, "outputs", [unicodedata.normalize(form, "_\u00e9")])) == ["x"]


# A part of a set.


def test_what_systems_leave_beside_pictures_is_no_picture(folders):
    (folders[0] / "._a.png").write_bytes(b"Mac OS X")
    (folders[1] / "thumbnails.png").symlink_to(folders[1], target_is_directory=True)
    assert "5 images" in ask(folders)[0]


def test_what_is_left_out_is_named_and_counted(folders, tmp_path):
    (folders[0] / "a.png").unlink()
    (folders[1] / "b.png").unlink()
    (folders[0] / "c.png").write_bytes((folders[0] / "c.png").read_bytes()[:200])
    write_png(folders[0] / "d.png", result_of(3)[:-20])
    with pytest.raises(UserError, match="lacks 1 of 4") as error:
        ask(folders)
    assert "--partial, without --set, scores the 3 that have a partner" in error.value.remedy
    lines = ask(folders, partial=True, json=tmp_path / "a.json")
    assert "1 images" in lines[0] and lines[1].split()[1] == f"{psnr_y(result_of(4), hr_of(4)):.4f}"
    left_out = json.loads((tmp_path / "a.json").read_text())["left_out"]
    assert left_out.keys() == {"a", "b", "c", "d"} and "left out a: has no result" in lines
    assert (
        left_out["b"] == "has no hr" and "truncated" in left_out["c"] and "64x44 pixels, its hr 64x64" in left_out["d"]
    )


def test_a_picture_that_can_be_no_result_is_left_out_too(folders):
    (folders[0] / "a.gif").write_bytes(b"GIF89a")
    (folders[1] / "grid.psd").write_bytes(b"8BPS")
    with pytest.raises(UserError, match=r"outputs: a\.gif is in a format"):
        ask(folders)
    lines = ask(folders, partial=True)
    assert "5 images" in lines[0] and "left out outputs a.gif: a.gif is in a format that is not scored." in lines
    assert "left out hr grid.psd: grid.psd is in a format that is not scored." in lines


def test_nothing_left_is_refused(folders):
    for key in KEYS:
        (folders[0] / f"{key}.png").rename(folders[0] / f"{key}_out.png")
    with pytest.raises(UserError, match="No result of outputs has the key of an hr") as error:
        ask(folders, partial=True)
    assert "--strip _out" in error.value.remedy
    for key in KEYS:
        (folders[0] / f"{key}_out.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"(?s)a_out\.png cannot be scored.*e_out\.png cannot be scored"):
        ask(folders, partial=True, strip=("_out",))


def test_of_many_pictures_that_cannot_be_scored_ten_are_named(folders):
    for number in range(12):
        for folder in folders:
            (folder / f"x{number:02d}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"(?m)x09\.png cannot be scored, [^\n]*\nand 2 more$"):
        ask(folders)


def test_a_named_set_is_scored_whole(folders):
    for part in ("partial", "cut"):  # published numbers are of all of it, and of all of its pixels
        with pytest.raises(UserError, match="scored whole"):
            ask(folders, test_set="realsr", **{part: True})


def test_a_set_that_gets_too_small_for_the_only_metric_is_refused(folders, monkeypatch):
    monkeypatch.setattr(fid, "MIN_IMAGES", 5)
    monkeypatch.setattr(fid, "verify", lambda *_: "0" * 64)
    (folders[0] / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"No metric is left to compute\. fid: .* 4 images are too few"):
        ask(folders, metrics=("fid",), partial=True)


# Sizes.


def test_sizes_that_differ_are_all_named_and_a_few_pixels_can_be_cut(folders, tmp_path):
    write_png(folders[0] / "a.png", result_of(0)[:-3, :-1])
    write_png(folders[0] / "b.png", np.pad(result_of(1), ((0, 1), (0, 0), (0, 0)), mode="edge"))
    with pytest.raises(UserError, match=r"(?s)a\.png has 63x61 pixels, its hr 64x64.*b\.png has 64x65") as error:
        ask(folders)
    assert "--cut" in error.value.remedy
    lines = ask(folders, cut=True, csv=tmp_path / "a.csv", json=tmp_path / "a.json")
    assert "treated  cut in 1 images" in lines and "treated  hr:cut in 1 images" in lines
    with (tmp_path / "a.csv").open() as file:
        scores = [float(row["psnr"]) for row in csv.DictReader(file)]
    expected = psnr_y(result_of(0)[:-3, :-1], hr_of(0)[:-3, :-1]), psnr_y(result_of(1), hr_of(1))
    assert scores[:2] == pytest.approx(expected, abs=1e-6)
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert all(row["crop"] == "to the size that result and hr have in common" for row in rows)
    write_png(folders[0] / "a.png", result_of(0)[::4, ::4].copy())  # lr, say
    with pytest.raises(UserError, match="16x16 pixels, its hr 64x64") as error:
        ask(folders, cut=True)
    assert "Nothing is resized" in error.value.remedy and "--cut" not in error.value.remedy


def test_pictures_too_small_for_a_metric_are_named_before_scoring_or_left_out(folders):
    large = photograph("chelsea.png")
    for folder in folders:
        write_png(folder / "a.png", large)
    said = r"(?s)niqe: \S*out/b\.png of 64x64 is too small: it must hold 2 squares of 96 px\..*out/e\.png of 64x64"
    with pytest.raises(UserError, match=said) as error:
        ask(folders, metrics=("psnr", "niqe"))
    assert "leave the metric out. Or --partial" in error.value.remedy
    lines = ask(folders, metrics=("psnr", "niqe"), partial=True)
    assert "1 images" in lines[0] and sum(line.startswith("left out") for line in lines) == 4
    write_png(folders[0] / "a.png", large[:64, :64])
    write_png(folders[1] / "a.png", large[:64, :64])
    with pytest.raises(UserError, match=r"(?s)a\.png of 64x64.*e\.png of 64x64") as error:
        ask(folders, metrics=("niqe",))
    assert "--partial" not in error.value.remedy  # nothing would be left


# Without hr.


def test_results_without_hr_can_be_scored_by_what_needs_none(tmp_path):
    (tmp_path / "out").mkdir()
    write_png(tmp_path / "out" / "a.png", photograph("chelsea.png")[..., 0])
    lines = ask((tmp_path / "out", None), metrics=("niqe",))
    assert [line for line in lines if line.startswith("treated")] == ["treated  gray in 1 images"]
    assert lines[1].startswith("NIQE") and "set      without hr or --set nobody knows" in "\n".join(lines)
    with pytest.raises(UserError, match="psnr, ssim compare with hr"):
        ask((tmp_path / "out", None), metrics=("psnr", "ssim", "niqe"))


def test_the_command_takes_both_options(folders):
    (folders[0] / "a.png").unlink()
    write_png(folders[0] / "b.png", result_of(1)[1:])
    done = CliRunner().invoke(app, ["score", str(folders[0]), "--hr", str(folders[1]), "--partial", "--cut"])
    assert done.exit_code == 0 and "4 images" in done.output and "left out a: has no result" in done.output


def test_one_damaged_picture_does_not_end_the_baseline(folders, tmp_path):
    (folders[1] / "b.png").write_bytes((folders[1] / "b.png").read_bytes()[:200])
    lines = list(baseline(folders[1], tmp_path / "new", None, (), "cpu"))
    assert lines[0].startswith("4 images in") and "hr/b.png cannot be scored, truncated" in lines[1] and len(lines) == 2
    assert sorted(path.stem for path in (tmp_path / "new").iterdir()) == ["a", "c", "d", "e"]
    for name, status in (("again", 3), ("whole", 0)):
        done = CliRunner().invoke(app, ["baseline", str(folders[1]), str(tmp_path / name), "--device", "cpu"])
        assert done.exit_code == status and ("left out" in done.output) == (status == 3)
        write_png(folders[1] / "b.png", hr_of(1))
    for path in folders[1].iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"(?s)a\.png.*e\.png"):
        list(baseline(folders[1], tmp_path / "newer", None, (), "cpu"))


# Scores of several folders in one table.


def columns(folder: Path, monkeypatch) -> dict[tuple[str, str], float]:
    """Column and method -> mean PSNR, as `spasemsr tables` prints them."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(experiment, "measured", list)
    return {(number.origin, number.method): number.value for number in experiment.numbers() if number.metric == "psnr"}


def test_scores_of_other_pictures_with_the_same_names_stand_in_another_column(folders, tmp_path, monkeypatch):
    scores = tmp_path / "reports" / "scores"
    ask(folders, method="one", json=scores / "one.json")
    ask(folders, method="other", json=scores / "other.json")
    assert {method for _, method in columns(tmp_path, monkeypatch)} == {"one", "other"}
    assert {origin for origin, _ in columns(tmp_path, monkeypatch)} == {"spasemsr score, n 5"}
    write_png(folders[1] / "a.png", result_of(0))
    ask(folders, method="other", json=scores / "other.json")
    assert len({origin for origin, _ in columns(tmp_path, monkeypatch)}) == 2


def test_scores_of_cut_pictures_stand_in_another_column(folders, tmp_path, monkeypatch):
    scores = tmp_path / "reports" / "scores"
    ask(folders, method="one", json=scores / "one.json")
    write_png(folders[0] / "a.png", result_of(0)[:-1])
    ask(folders, method="other", cut=True, json=scores / "other.json")
    whole, cut = sorted((origin for origin, _ in columns(tmp_path, monkeypatch)), key=len)
    assert (whole, cut) == tuple(
        f"spasemsr score, n 5, {crop}" for crop in ("no crop", "to the size that result and hr have in common")
    )


def test_two_files_of_one_method_both_stay(folders, tmp_path, monkeypatch):
    scores = tmp_path / "reports" / "scores"
    ask(folders, json=scores / "seed0.json")
    write_png(folders[0] / "a.png", hr_of(0))
    ask(folders, json=scores / "seed1.json")
    found = columns(tmp_path, monkeypatch)
    assert {method for _, method in found} == {"outputs (seed0)", "outputs (seed1)"} and len({*found.values()}) == 2


def test_two_files_of_one_method_by_other_metrics_are_one_row(folders, tmp_path, monkeypatch):
    for metric in ("psnr", "texture"):
        ask(folders, metrics=(metric,), json=tmp_path / "reports" / "scores" / f"{metric}.json")
    assert {method for _, method in columns(tmp_path, monkeypatch)} == {"outputs"}
    assert len(experiment.numbers()) == 2
