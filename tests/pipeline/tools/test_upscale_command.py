"""`spasemsr upscale`: which files, what is skipped, what is refused, and that no half-written file is ever left."""

import contextlib
import io
import json
import logging
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from pipeline.commands.pictures import upscale as upscale_command
from pipeline.tools import upscale
from spasemsr import atomic
from spasemsr.errors import UserError
from spasemsr.images.results import map_of
from spasemsr.upscaling import files
from spasemsr.upscaling.upscaler import Upscaler
from tests.worlds import ROOT
from tests.worlds.tiny_upscaler import photograph, tiny_upscaler

app = typer.Typer()
app.command()(upscale_command)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_upscaler().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def loaded(weights) -> Upscaler:
    return Upscaler.from_pretrained(weights, workers=1)


@pytest.fixture
def command(loaded, monkeypatch, caplog):
    """Run the command with the tiny model -> exit status and what it said; a UserError is 2, as in `cli.main`."""
    monkeypatch.setattr(upscale, "load", lambda *args: loaded)
    caplog.set_level(logging.INFO)

    def run(*arguments: object) -> tuple[int, str]:
        caplog.clear()
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        said = "\n".join(record.getMessage() for record in caplog.records)
        if isinstance(result.exception, UserError):
            return 2, f"{said}\n{result.exception}"
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, said + result.output

    return run


@pytest.fixture
def album(tmp_path) -> Path:
    folder = tmp_path / "album"
    (folder / "summer").mkdir(parents=True)
    photograph(16, 12).save(folder / "one.png")
    photograph(12, 16).save(folder / "two.JPG", "JPEG", quality=95)
    photograph(16, 16).save(folder / "summer" / "three.webp")
    (folder / "notes.txt").write_text("no picture")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


RESULTS = ["one_x4.png", "one_x4.png.json", "summer/three_x4.webp", "summer/three_x4.webp.json", "two_x4.jpg"]
RESULTS += ["two_x4.jpg.json"]


# Files, folders, patterns.


def test_a_folder_is_restored_and_then_skipped(command, album, tmp_path):
    out = tmp_path / "out"
    code, said = command(album, "-o", out)
    assert (code, sorted(tree(out))) == (0, RESULTS)
    assert "3 restored" in said and Image.open(out / "one_x4.png").size == (64, 48)
    before = tree(out)
    code, said = command(album, "-o", out)
    assert code == 0 and said.count("skipped  ") == 3 and "3 skipped" in said
    assert tree(out) == before


def test_the_sidecar_says_everything_and_nothing_of_this_machine(command, album, tmp_path):
    command(
        album / "one.png", "-o", tmp_path / "out", "--seed", 7, "--dial", 0.8, "--tags", "dog, red car", "--save-map"
    )
    text = (tmp_path / "out" / "one_x4.png.json").read_text()
    record = json.loads(text)
    assert record["settings"] == {
        "scale": 4, "dial": 0.8, "seed": 7, "steps": None, "tags": ["dog", "red car"], "caption": None,
    }  # fmt: skip
    assert [row["tag"] for row in record["objects"]] == ["dog", "red car"] and record["caption"]
    assert record["sampling"]["start"] > 0.3 and record["input"]["width"] == 16 and record["output"]["bits"] == 8
    assert set(record["files"]) == {"one_x4.png", "one_x4.png.map.png"} and record["map"]["seeds"] == 4
    assert str(tmp_path) not in text and Image.open(tmp_path / "out" / "one_x4.png.map.png").size == (64, 48)


def test_the_same_request_gives_the_same_bytes_anywhere(command, album, tmp_path):
    command(album / "one.png", "-o", tmp_path / "a")
    command(album / "*.png", "-o", tmp_path / "b", "--force")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_formats_scales_and_a_file_as_output(command, album, tmp_path):
    assert command(album, "-o", tmp_path / "tif", "--format", "tif", "--scale", 2)[0] == 0
    assert Image.open(tmp_path / "tif" / "summer" / "three_x2.tif").size == (32, 32)
    assert command(album / "two.JPG", "-o", tmp_path / "large.png")[0] == 0
    assert Image.open(tmp_path / "large.png").format == "PNG"


def test_other_settings_do_not_overwrite_without_force(command, album, tmp_path):
    out = tmp_path / "out"
    command(album / "one.png", "-o", out)
    before = tree(out)
    code, said = command(album / "one.png", "-o", out, "--seed", 1)
    assert code == 3 and "exists" in said and "--force" in said and tree(out) == before
    code, _ = command(album / "one.png", "-o", out, "--seed", 1, "--force")
    assert code == 0 and tree(out)["one_x4.png"] != before["one_x4.png"]


def test_somebody_elses_files_are_left_alone(command, album, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "one_x4.png").write_bytes(b"a treasure")
    (out / "two_x4.jpg.json").write_text('{"title": "holiday"}')
    code, said = command(album / "one.png", album / "two.JPG", "-o", out)
    assert code == 3 and "2 failed" in said
    assert tree(out) == {"one_x4.png": b"a treasure", "two_x4.jpg.json": b'{"title": "holiday"}'}


def test_a_damaged_result_is_made_again_only_by_force(command, album, tmp_path):
    out = tmp_path / "out"
    command(album / "one.png", "-o", out)
    whole = (out / "one_x4.png").read_bytes()
    (out / "one_x4.png").write_bytes(whole[:-20])
    assert command(album / "one.png", "-o", out)[0] == 3
    assert command(album / "one.png", "-o", out, "--force")[0] == 0
    assert (out / "one_x4.png").read_bytes() == whole


def test_results_inside_the_input_folder_are_not_inputs(command, album):
    assert command(album, "-o", album / "large")[0] == 0
    assert "3 skipped" in command(album, "-o", album / "large")[1]
    assert command(album, "-o", album)[0] == 0
    assert "4 restored" not in command(album, "-o", album)[1]
    (album / "two.JPG.json").write_text('{"title": "metadata of a photo service"}')
    found = [source.path.name for source in files.find_sources([str(album)], album)]
    assert sorted(set(found)) == ["one.png", "three.webp", "two.JPG"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.png", "-o", "out"], "does not exist"),
        (["nowhere/*.png", "-o", "out"], "does not exist"),
        (["empty", "-o", "out"], "holds no picture"),
        (["a.png", "b.png", "-o", "one.png"], "2 inputs"),
        (["a.png", "-o", "one.png", "--format", "jpg"], "JPEG"),
        (["a.png", "sub/a.png", "-o", "out"], "both become"),
        (["a.png", "-o", "b.png/out"], "not a folder"),
        (["a.png", "-o", "out", "--max-memory", "plenty"], "plenty"),
        (["a.png", "-o", "out", "--dial", "1.5"], "no number from 0 to 1"),
        (["a.png", "-o", "out", "--tags", "dog@0.5,0,1.5,1"], "not within the picture"),
    ],
)
def test_what_cannot_be_begun_is_said_at_once(command, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/a.png"):
        photograph(16, 12).save(name)
    before = tree(tmp_path)
    code, said = command(*arguments)
    assert code == 2 and told in said
    assert tree(tmp_path) == before


def test_weights_of_another_profile_are_refused(weights):
    with pytest.raises(UserError, match="embedded"):
        upscale.load("spasemsr", "foundation", str(weights), None, "cpu")
    assert upscale.load("spasemsr", "embedded", str(weights), None, "cpu").config.method == "spasemsr"


def test_without_weights_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"models/spasemsr and data/pretrained/nano below {tmp_path}") as error:
        upscale.load("spasemsr", None, None, None, "cpu")
    assert "--weights" in error.value.remedy and "dvc repro" in error.value.remedy


# Bad input.


def huge_png() -> bytes:
    """A PNG whose header states 20,000 x 10,000 pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    framed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def picture_bytes(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def test_bad_files_are_listed_with_their_reason_and_good_ones_restored(command, tmp_path):
    bad = {
        "text.png": (b"not an image", "unsupported_format"),
        "empty.jpg": (b"", "empty"),
        "dot.png": (picture_bytes(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        "huge.png": (huge_png(), "too_large"),
        "cut.jpg": (picture_bytes(photograph(64, 64), "JPEG")[:-400], "truncated"),
        "cut.tif": (picture_bytes(photograph(32, 32), "TIFF")[:60], ""),
        "picture.gif": (picture_bytes(photograph(8, 8), "GIF"), "unsupported_format"),
        "lab.tif": (picture_bytes(Image.new("LAB", (9, 9)), "TIFF"), "unsupported_mode"),
    }
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, (data, _) in bad.items():
        (folder / name).write_bytes(data)
    photograph(16, 12).save(folder / "good.png")
    code, said = command(folder, "-o", out)
    assert code == 3 and "1 restored, 8 failed" in said and "Traceback" not in said
    for name, (_, reason) in bad.items():
        (line,) = [line for line in said.splitlines() if name in line]
        assert line.startswith("failed") and reason in line
    assert sorted(tree(out)) == ["good_x4.png", "good_x4.png.json"]


def test_a_picture_too_large_for_the_memory_is_refused_by_its_header(command, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "huge.png").write_bytes(huge_png())
    code, said = command(tmp_path / "huge.png", "-o", tmp_path / "out", "--max-memory", "4GB")
    assert code == 3 and "needs_memory" in said and "80000x40000" in said and "4.0 GB" in said


def test_a_result_too_large_for_its_format_is_refused_before_work(command, tmp_path, monkeypatch):
    Image.new("L", (4100, 8)).save(tmp_path / "wide.webp")
    monkeypatch.setattr(Upscaler, "restore", None)
    code, said = command(tmp_path / "wide.webp", "-o", tmp_path / "out")
    assert code == 3 and "16383" in said


# Interrupted.


def test_no_permission_is_said_before_any_work(command, album, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic, "fill", refuse)
    code, said = command(album, "-o", tmp_path / "out")
    assert code == 2 and "may not be written" in said and "restored" not in said


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(command, album, tmp_path):
    """A limit on the size of files stands for the full disk: the same error, in the middle of a write."""
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # sidecars fit, pictures do not
    try:
        code, said = command(album, "-o", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2 and "No space left" in said and "3 of 3 left" in said
    assert tree(out) == {}
    assert command(album, "-o", out)[0] == 0 and sorted(tree(out)) == RESULTS


def test_ctrl_c_leaves_whole_files_and_the_rest_for_later(command, album, tmp_path, monkeypatch):
    out, real, calls = tmp_path / "out", Upscaler.restore, []

    def interrupted(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Upscaler, "restore", interrupted)
        code, said = command(album, "-o", out)
    assert code == 130 and "2 of 3 left" in said
    first = tree(out)
    assert len(first) == 2
    code, said = command(album, "-o", out)
    assert code == 0 and "2 restored, 1 skipped" in said
    assert first.items() <= tree(out).items()


@pytest.mark.parametrize("moment", ["fsync", "link", "replace"])
@pytest.mark.parametrize("force", [False, True])
def test_ctrl_c_while_writing_leaves_nothing_half_written(tmp_path, monkeypatch, moment, force):
    def interrupt(*args):
        raise KeyboardInterrupt

    picture = tmp_path / "a.png"
    told = files.sidecar("1" * 64, [(picture, b"2"), (map_of(picture), b"3")], {})
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(os, moment, interrupt)
        files.publish(picture, b"2", told, b"3", force)
    found = tree(tmp_path)
    assert not [name for name in found if name.endswith(".partial")]
    assert files.state(picture, "1" * 64, with_map=True) in ("free", "done")
    assert files.publish(picture, b"2", told, b"3", force=False, resumed=picture.exists())
    assert tree(tmp_path) == {"a.png": b"2", "a.png.json": told, "a.png.map.png": b"3"}


def test_killed_in_the_middle_of_a_folder_only_the_rest_is_done(command, weights, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(6):
        photograph(48, 48).rotate(30 * index).save(folder / f"{index:02}.png")
    script = "import logging, typer; from pipeline.commands.pictures import upscale; typer.run(upscale)"
    arguments = [str(folder), "-o", str(out), "--weights", str(weights), "--device", "cpu", "--text", "free"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 500
    while not len(list(out.glob("*.png"))) >= 1:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.read_bytes() for path in out.glob("*.png")}
    assert 1 <= len(done) < 6
    code, said = command(folder, "-o", out, "--text", "free")
    assert code == 0 and f"{6 - len(done)} restored, {len(done)} skipped" in said
    after = tree(out)
    assert len(after) == 12 and done.items() <= after.items()
    assert np.asarray(Image.open(out / "05_x4.png")).shape == (192, 192, 3)
