"""Text is safe: its boxes are those of the faithful end, to the bit, and what it reads is compared."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from pipeline.tools.upscale import Request, run
from spasemsr import Upscaler
from spasemsr.backends.protocols import Box
from spasemsr.backends.text import build_reader
from spasemsr.backends.text.reader import Line
from spasemsr.determinism import single_threaded
from spasemsr.images.picture import from_image
from spasemsr.upscaling import lettering
from spasemsr.upscaling.description import Description
from spasemsr.upscaling.lettering import Lettering, Reading, warnings
from spasemsr.upscaling.regions import RAMP
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.upscaler import Restored
from tests.worlds.lettering import FakeReader, written
from tests.worlds.tiny_upscaler import photograph

NOTHING = Description((), "blurred")
BOX = (0.5, 0.5, 0.75, 0.75)
CORNERS = ((0.5, 0.5), (0.75, 0.5), (0.75, 0.75), (0.5, 0.75))
SIGN, FAINT, SPECK = Line(CORNERS, "SIGN", 0.9), Line(CORNERS, "BLURRED", 0.2), Line(CORNERS, "|-", 0.9)


@pytest.fixture(autouse=True)
def text_is_not_looked_for() -> None:
    """Here it is."""


@pytest.fixture
def reader(monkeypatch) -> FakeReader:
    made = FakeReader(SIGN, FAINT, SPECK, after="SION")
    monkeypatch.setattr(lettering, "build_reader", lambda: made)
    return made


@pytest.fixture(autouse=True)
def canvases(tiny, monkeypatch) -> list[float]:
    """The dials of the results that are computed: even grey of a level that says the dial, in the network's place."""
    drawn: list[float] = []

    def canvas(lr, windows, description, dial, *rest):
        drawn.append(dial)
        return np.full((lr.shape[0] * 4, lr.shape[1] * 4, 3), level(dial), np.uint16)

    monkeypatch.setattr(tiny, "_canvas", canvas)
    return drawn


def level(dial: float) -> int:
    return 257 * round(50 + 100 * dial)


def restored(made: Upscaler, **settings) -> Restored:
    return made.restore(from_image(photograph(64, 64)), Settings(**settings), NOTHING)


def test_inside_text_pixels_are_those_of_the_faithful_end_and_outside_the_dials(tiny, reader):
    safe, free = restored(tiny, dial=1.0), restored(tiny, dial=1.0, text="free")
    pixels = safe.picture.colour
    assert (pixels[128:192, 128:192] == level(0.0) // 257).all()
    around = np.ones(pixels.shape[:2], bool)
    around[128 - RAMP - 2 : 192 + RAMP + 2, 128 - RAMP - 2 : 192 + RAMP + 2] = False
    assert (pixels[around] == level(1.0) // 257).all() and (free.picture.colour == level(1.0) // 257).all()
    assert [region.tag for region in safe.regions] == ["text"] and safe.sampling == free.sampling
    assert free.regions == free.text == ()


def test_what_reads_otherwise_is_said_and_what_cannot_be_read_is_no_text(tiny, reader):
    (reading,) = restored(tiny).text
    assert reading == Reading(BOX, "SIGN", "SION") and reading.changed and reading.alike == 0.75
    assert reader.looked == [(256, 256)] * 2


def test_free_text_is_not_looked_for(tiny, reader):
    assert restored(tiny, text="free").text == () and reader.looked == []


def test_text_lies_over_an_object_with_a_strength_of_its_own(tiny, reader):
    settings = {"tags": ("wall@0.25,0.25,1,1",), "dials": (("wall", 1.0),)}
    picture = from_image(photograph(64, 64))
    objects = Description((Box("wall", (0.25, 0.25, 1.0, 1.0), 1.0),), "")
    safe = tiny.restore(picture, Settings(dial=0.0, **settings), objects)
    assert [region.tag for region in safe.regions] == ["wall", "text"]
    assert (safe.picture.colour[128:192, 128:192] == level(0.0) // 257).all()
    assert (safe.picture.colour[224:, 224:] != level(0.0) // 257).all()


@pytest.mark.parametrize(
    ("dial", "lines", "count"), [(1.0, [SIGN], 2), (0.0, [SIGN], 1), (1.0, [FAINT, SPECK], 1), (1.0, [], 1)]
)
def test_nothing_is_restored_twice_without_need(tiny, monkeypatch, canvases, dial, lines, count):
    plans, planned = [], tiny.plan
    monkeypatch.setattr(tiny, "plan", lambda *how: plans.append(how) or planned(*how))
    monkeypatch.setattr(lettering, "build_reader", lambda: FakeReader(*lines, after="SIGN"))
    result = restored(tiny, dial=dial)
    assert len(canvases) == len(plans) == count  # memory for both is planned before the first
    assert [reading.changed for reading in result.text] == [False] * (lines == [SIGN])


def test_a_dial_that_moves_nothing_needs_no_second_result(tiny, reader, canvases, monkeypatch):
    still = tiny.sampling.model_copy(update={"lre": False, "start": 1.0})  # from pure noise, without guidance
    monkeypatch.setattr(tiny, "sampling", still)
    result = restored(tiny, dial=1.0)
    assert canvases == [1.0] and result.regions == () and len(result.text) == 1
    monkeypatch.setattr(tiny, "_restorer_dials", True)  # it moves the restorer in sampling's place
    assert len(restored(tiny, dial=1.0).regions) == 1 and canvases == [1.0, 1.0, 0.0]


def test_a_line_keeps_what_it_reads_whatever_its_blanks_and_case():
    assert not Reading(BOX, "Open now", "OPEN  NOW").changed and not Reading(BOX, "ＡＢ", "ab").changed
    assert Reading(BOX, "EXIT", "EXJT").changed and Reading(BOX, "EXIT", "").alike == 0


def test_a_warning_quotes_three_lines_and_counts_the_rest():
    same, other = Reading(BOX, "EXIT", "exit"), Reading(BOX, "EXIT", "EXJT")
    assert warnings([]) == warnings([same]) == []
    assert warnings([same, other]) == ['1 line of text reads otherwise than before: "EXIT" became "EXJT"']
    (said,) = warnings([other] * 5)
    assert said.startswith("5 lines of text read otherwise") and said.endswith(", 2 more")


def test_the_sidecar_holds_the_readings_and_the_line_of_the_result_warns(tiny, reader, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    photograph(64, 64).save(tmp_path / "sign.png")

    def upscaled(**settings) -> dict:
        asked = Request((str(tmp_path / "sign.png"),), tmp_path / "out", Settings(**settings), force=True)
        assert run(asked, lambda: tiny) == 0
        return json.loads((tmp_path / "out" / "sign_x4.png.json").read_text())

    safe = upscaled()
    assert safe["text"] == [
        {"box": list(BOX), "before": "SIGN", "after": "SION", "alike": 0.75, "changed": True}
    ]  # fmt: skip
    assert 'reads otherwise than before: "SIGN" became "SION"' in caplog.text and "text" not in safe["settings"]
    free = upscaled(text="free")
    assert "text" not in free and free["settings"]["text"] == "free"
    reader.sha256 = "another reader"
    assert len({record["fingerprint"] for record in (safe, free, upscaled())}) == 3


def test_words_are_found_in_a_picture_by_the_real_networks(tiny):
    reader = build_reader()
    if reader is None:
        pytest.skip("the extra `real` is not installed: rapidocr is missing")
    lr = written("BAKERY", 80, 32)
    with single_threaded():
        before = tiny._describer.looked_at(lr)
        found = Lettering(reader, before)
        (kept,) = found.readings(before.astype(np.uint16) * 257)
        (lost,) = found.readings(np.full_like(before, 200).astype(np.uint16) * 257)
    assert Image.fromarray(before).size == (320, 128)
    assert kept.before == kept.after == "BAKERY" and not kept.changed
    assert lost.before == "BAKERY" and lost.changed
