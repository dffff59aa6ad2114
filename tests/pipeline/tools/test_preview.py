"""`spasemsr upscale --preview`: which piece is taken, what stands on the sheet, and what is refused."""

import json
import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from pipeline.commands.pictures import upscale as upscale_command
from pipeline.tools import upscale
from spasemsr.backends.protocols import Box
from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.images.picture import Picture
from spasemsr.images.results import Neighbours
from spasemsr.upscaling import preview
from spasemsr.upscaling.description import Description
from spasemsr.upscaling.settings import Settings
from tests.worlds.instant_upscaler import SAID, InstantUpscaler

app = typer.Typer()
app.command()(upscale_command)


class Repeating:
    """A restorer that repeats pixels."""

    def restore(self, images, scale):
        return [cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) for image in images]


class Looked(InstantUpscaler):
    """An instant upscaler with a restorer, which keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Settings] = []
        self.config = SimpleNamespace(scale=4, **vars(InstantUpscaler.config))
        self.restorer = Repeating()

    def describe(self, picture, settings=None):
        return SAID

    def restore(self, picture, settings, description=None, **more):
        assert description is SAID
        self.asked.append(settings)
        return super().restore(picture, settings, **more)


@pytest.fixture
def command(monkeypatch, caplog):
    upscaler = Looked()
    monkeypatch.setattr(upscale, "load", lambda *_: upscaler)
    monkeypatch.setattr(preview, "others", lambda: {"another": Repeating()})
    caplog.set_level(logging.INFO)

    def run(*arguments: object) -> tuple[int, str]:
        caplog.clear()
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        said = "\n".join(record.getMessage() for record in caplog.records)
        if isinstance(result.exception, UserError):
            return 2, str(result.exception)
        return result.exit_code, said + result.output

    run.upscaler = upscaler
    return run


def flat(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def test_the_piece_is_where_the_detail_is_or_where_it_is_asked_for():
    pixels = flat(400, 300)
    pixels[190:250, 300:360] = np.random.default_rng(0).integers(0, 255, (60, 60, 1)).repeat(3, axis=2)
    picture = Picture(pixels, None, "PNG")
    taken = preview.piece(picture).of(picture)
    assert taken.size == (96, 96) and np.ptp(taken.colour[..., 0].astype(int)) > 100
    assert (taken.colour != 90).any(axis=2).sum() >= 0.9 * 60 * 60
    rows, columns = np.mgrid[0:300, 0:400]
    ramp = Picture(np.dstack([rows, columns, rows]).clip(0, 400).astype(np.uint16), None, "PNG")
    assert preview.piece(ramp, (0.0, 1.0)).of(ramp).colour[0, 0].tolist() == [204, 0, 204]  # kept inside
    assert preview.piece(ramp, (0.5, 0.5)).of(ramp).colour[0, 0].tolist() == [102, 152, 102]
    assert preview.piece(Picture(flat(50, 20), None, "PNG")) == preview.Piece(0, 0, 20, 50)


def test_the_piece_sees_its_part_of_what_is_known_of_the_picture():
    boxes = (Box("sky", (0.0, 0.0, 1.0, 0.5), 0.9), Box("dog", (0.8, 0.8, 1.0, 1.0), 0.8))
    picture = Picture(flat(192, 192), None, "PNG")
    seen = preview.Piece(0, 48, 96, 96).described(Description(boxes, "blurred"), picture)
    assert seen == Description((Box("sky", (0.0, 0.0, 1.0, 1.0), 0.9),), "blurred")
    assert preview.Piece(0, 0, 9, 9).described(Description((), ""), picture) == Description((), "")


def test_a_sheet_shows_every_way_under_the_settings_of_the_run(command, tmp_path):
    Image.fromarray(flat(120, 100)).save(tmp_path / "a.jpg")
    code, said = command(tmp_path / "a.jpg", "-o", tmp_path / "out", "--preview", "--seed", 3, "--width", 200)
    assert code == 0 and "a_preview.png" in said
    asked = command.upscaler.asked
    assert [settings.dial for settings in asked] == [0.0, 0.5, 1.0]
    assert {(settings.seed, settings.scale, settings.width) for settings in asked} == {(3, 4, None)}
    with Image.open(tmp_path / "out" / "a_preview.png") as image:
        assert image.size[0] > 3 * 384 and image.size[1] > 2 * 384
        level = np.asarray(image)[200, [200, 600, 1000]]
    assert (abs(level.astype(int) - 90) <= 2).all()
    labels = [label for label, _ in preview.ways(command.upscaler, Picture(flat(9, 9), None, ""), Settings(), {}, SAID)]
    assert labels == ["bicubic", "restorer alone", "dial 0, faithful", "dial 0.5", "dial 1, sharp"]


def test_what_is_there_is_kept_and_bad_files_are_named(command, tmp_path):
    Image.fromarray(flat(40, 40)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    first = command(tmp_path, "-o", tmp_path / "out", "--preview")
    assert first[0] == 3 and "b.jpg: corrupt" in first[1]
    same = command(tmp_path / "a.png", "-o", tmp_path / "out", "--preview")
    assert same[0] == 0 and "skipped" in same[1] and "is done" in same[1]
    again = command(tmp_path / "a.png", "-o", tmp_path / "out", "--preview-at", "0.2,0.9")
    assert again[0] == 3 and "--force replaces it" in again[1]
    assert command(tmp_path / "a.png", "-o", tmp_path / "out", "--preview", "--force")[0] == 0
    code, said = command(tmp_path / "a.png", "-o", tmp_path / "out", "--preview-at", "2,0")
    assert code == 2 and "is no place in a picture" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_preview.png", "a_preview.png.json"]


def test_a_sidecar_says_how_a_sheet_was_made_and_that_it_is_no_photograph_to_restore(command, tmp_path):
    Image.fromarray(flat(120, 100)).save(tmp_path / "a.png")
    assert command(tmp_path / "a.png", "-o", tmp_path, "--preview-at", "0,1", "--seed", 3)[0] == 0
    record = json.loads((tmp_path / "a_preview.png.json").read_text())
    assert record["files"] == {"a_preview.png": sha256_file(tmp_path / "a_preview.png")}
    assert record["input"]["sha256"] == sha256_file(tmp_path / "a.png") and record["input"]["name"] == "a.png"
    assert record["settings"]["seed"] == 3 and record["model"]["weights_sha256"] == "0" * 64
    assert record["preview"] == {
        "piece": {"top": 4, "left": 0, "height": 96, "width": 96},
        "ways": ["bicubic", "restorer alone", "another", "dial 0, faithful", "dial 0.5", "dial 1, sharp"],
        **SAID.plain(),
    }
    assert Neighbours(tmp_path).is_ours(tmp_path / "a_preview.png")
