"""Which formats are read, by what, and what is said where the package that reads one is not installed."""

import os
import sys
import types

import numpy as np
import pytest
from PIL import Image

from spasemsr.data import survey
from spasemsr.data.sources import Photograph, Sources
from spasemsr.data.spec import DataSpec
from spasemsr.errors import RejectedSample
from spasemsr.images.flat import decode
from spasemsr.images.formats import HEIC, JPEG_XL
from spasemsr.images.opening import header, read_bytes
from spasemsr.images.picture import parse_picture
from spasemsr.images.stored import read_scored
from spasemsr.images.writing import encode, fitted, written_as
from tests.worlds.odd_pictures import encoded, picture

LIMIT = 1_000_000
HEIC_START = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40)
JXL_START = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl " + bytes(40)
BEYOND = [(HEIC_START, HEIC), (JXL_START, JPEG_XL), (b"\xff\x0a" + bytes(40), JPEG_XL)]


@pytest.mark.parametrize(
    ("form", "mode"), [("BMP", "RGB"), ("BMP", "L"), ("BMP", "P"), ("AVIF", "RGB"), ("AVIF", "RGBA")]
)
def test_bmp_and_avif_are_read_everywhere_and_become_png(tmp_path, form, mode):
    data = encoded(picture(40, 24).convert(mode), form)
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    assert header(path) == header(data) == (form, (40, 24))
    read = parse_picture(data, LIMIT)
    assert read.format == form and written_as(form) == "PNG" and written_as("JPEG") == "JPEG"
    again = parse_picture(encode(fitted(read, "PNG")), LIMIT)
    assert np.array_equal(again.colour, read.colour) and np.array_equal(again.rgb8(), decode(data, LIMIT).pixels)
    scored = read_scored(path)
    assert np.array_equal(scored.pixels, read.rgb8()) and ("avif" in scored.treatments) == (form == "AVIF")
    near = np.abs(read.rgb8().astype(int) - np.asarray(picture(40, 24).convert(mode).convert("RGB")))
    assert near.mean() < 4


@pytest.mark.parametrize(("data", "decoder"), BEYOND)
def test_a_missing_decoder_is_named_and_not_remembered(tmp_path, monkeypatch, data, decoder):
    monkeypatch.setitem(sys.modules, decoder.module, None)
    for read in (decode, parse_picture):
        with pytest.raises(RejectedSample, match=f"pip install {decoder.package}") as error:
            read(data, LIMIT)
        assert error.value.reason == "needs_package"
    assert header(data) is None
    (tmp_path / "a.heic").write_bytes(data + bytes(survey._REMEMBERED_BYTES))
    store: dict[str, bytes] = {}
    verdict = survey.examine(Photograph("folder", "a.heic"), Sources((), tmp_path), DataSpec(), _Store(store))
    assert isinstance(verdict, survey.Reject) and verdict.reason == "needs_package" and not store


@pytest.mark.parametrize(("data", "decoder"), BEYOND)
def test_an_installed_decoder_is_asked(monkeypatch, data, decoder):
    known = picture(40, 24)
    monkeypatch.setitem(Image.OPEN, decoder.form, (lambda *_: known, None))
    monkeypatch.setattr(Image, "ID", [*Image.ID, decoder.form])
    module = types.ModuleType(decoder.module)
    module.register_heif_opener = lambda: None
    monkeypatch.setitem(sys.modules, decoder.module, module)
    assert np.array_equal(decode(data, LIMIT).pixels, np.asarray(known))


class _Store:
    def __init__(self, held: dict[str, bytes]) -> None:
        self._held = held

    def get(self, key: str) -> bytes | None:
        return self._held.get(key)

    def put(self, key: str, payload: bytes, label: str = "") -> None:
        self._held[key] = payload


def test_a_pipe_is_no_picture_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    pipe = os.open(tmp_path / "pipe.png", os.O_RDWR)  # without a writer, to open it to read would never end
    os.write(pipe, b"\x89PNG of forty bytes, which nobody reads")
    assert header(tmp_path / "pipe.png") is None
    assert os.read(pipe, 100).startswith(b"\x89PNG")
    os.close(pipe)
    with pytest.raises(RejectedSample, match="empty"):
        read_bytes(tmp_path / "pipe.png", 100)
