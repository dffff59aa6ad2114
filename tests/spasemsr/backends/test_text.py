"""Finding and reading text: drawn words are read, at any angle; files that are not whole are refused."""

import cv2
import numpy as np
import pytest

from spasemsr.backends import text
from spasemsr.backends.text.outlines import outlines
from spasemsr.backends.text.reader import TextReader
from spasemsr.determinism import single_threaded
from spasemsr.errors import UserError
from spasemsr.weights.onnx import read_metadata
from spasemsr.weights.packages import NotInstalled
from tests.worlds.lettering import written


@pytest.fixture(scope="module")
def reader() -> TextReader:
    made = text.build_reader()
    if made is None:
        pytest.skip("the extra `real` is not installed: rapidocr is missing")
    return made


def test_drawn_words_are_read_where_they_are_and_twice_alike(reader):
    image = written("MARKET", 256, 96)
    with single_threaded():
        (line,), again = reader.read(image), reader.read(image)
    assert line.text == "MARKET" and line.score > 0.9 and [line] == again
    x0, y0, x1, y1 = line.box
    dark = np.argwhere(image[..., 0] < 128)
    (top, left), (bottom, right) = dark.min(axis=0), dark.max(axis=0)
    assert x0 * 256 <= left and right <= x1 * 256 and y0 * 96 <= top and bottom <= y1 * 96
    assert (x1 - x0) * 256 < right - left + 40 and (y1 - y0) * 96 < bottom - top + 40


def test_a_line_that_climbs_is_found_and_turned_to_be_read(reader):
    with single_threaded():
        (line,) = reader.read(np.ascontiguousarray(np.rot90(written("MARKET", 256, 96), -1)))
    x0, y0, x1, y1 = line.box
    assert line.text == "MARKET" and y1 - y0 > 0.5 and x1 - x0 < 0.7


def test_nothing_is_read_where_nothing_is_written(reader):
    with single_threaded():
        assert reader.read(np.full((64, 96, 3), 200, np.uint8)) == []


def test_outlines_of_two_lines_come_from_the_top_down_and_are_grown():
    chances = np.zeros((96, 128), np.float32)
    chances[60:70, 20:100], chances[20:30, 30:90], chances[80:82, 5:7] = 0.9, 0.8, 0.9
    chances[5:15, 100:120] = 0.4  # over the threshold of a pixel, too little for a line
    first, second = outlines(chances)
    assert first[:, 1].max() < 45 < second[:, 1].min()
    assert first[0].tolist() == first.min(axis=0).tolist() and first[2].tolist() == first.max(axis=0).tolist()
    assert first[0, 0] < 30 and first[0, 1] < 20 and first[2, 0] > 90 and first[2, 1] > 30


def test_an_outline_keeps_the_angle_of_its_line():
    chances = np.zeros((128, 128), np.float32)
    cv2.line(chances, (20, 90), (100, 40), 1.0, 11)
    (corners,) = outlines(chances)
    rise = corners[1] - corners[0]
    assert rise[0] > 60 and np.isclose(rise[1] / rise[0], -50 / 80, atol=0.1)


def test_metadata_of_a_file_is_read_and_a_damaged_one_refused(tmp_path):
    entry = b"\x0a\x03key\x12\x05value"
    whole = b"\x08\x0a" + b"\x12\x02hi" + b"\x25abcd" + b"\x72" + bytes([len(entry)]) + entry
    path = tmp_path / "model.onnx"
    path.write_bytes(whole)
    assert read_metadata(path) == {"key": "value"}
    for damaged in (whole[:-1], b"\x73" + whole, whole + b"\xff", b"\x72\x02\x12\x00"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.onnx is no whole ONNX file"):
            read_metadata(path)


def test_without_the_package_there_is_no_reader_and_one_line_says_so(monkeypatch, caplog):
    def absent(name: str):
        raise NotInstalled(f"{name}: the package rapidocr is not installed.", "Run: make env")

    monkeypatch.setattr(text, "locate", absent)
    build = text.build_reader.__wrapped__
    assert build() is None
    assert "text is not looked for" in caplog.text and "rapidocr is not installed" in caplog.text
