"""A strength for each object: what is typed, where it holds to the bit, what is refused, what lies over what."""

import numpy as np
import pytest
from pydantic import ValidationError

from spasemsr.backends.protocols import Box
from spasemsr.errors import RejectedSample, UserError
from spasemsr.images.picture import from_image
from spasemsr.pixels import bicubic_upsample, to_tensor
from spasemsr.upscaling import upscaler
from spasemsr.upscaling.colour import grown
from spasemsr.upscaling.description import Description
from spasemsr.upscaling.memory import Footprint, budget
from spasemsr.upscaling.regions import RAMP, Region, laid, overlaps, regions_of
from spasemsr.upscaling.settings import WHOLE, Settings, located, parse_dial, parse_tags
from tests.worlds.tiny_upscaler import SAMPLE, photograph, tiny_upscaler

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.6, 0.2, 1.0, 0.9)


def test_a_dial_is_a_number_or_one_for_each_tag_and_all_else():
    assert parse_dial("0.3") == (0.3, ())
    assert parse_dial("person=0, red  car=0.9, *=0.4") == (0.4, (("person", 0.0), ("red car", 0.9)))
    assert parse_dial("person=1") == (0.5, (("person", 1.0),))
    assert parse_dial("a=b=1") == (0.5, (("a=b", 1.0),))
    assert parse_dial("dog@0, 0,0.5,1=off, *=1") == (1.0, (("dog@0,0,0.5,1", "off"),))


NO_DIALS = "/much/1.1/-0.1/nan/dog=/dog=2/=1/dog=1,/dog=1, dog=0/off/*=off/dog@0,0,2,1=1/dog@0=1".split("/")


@pytest.mark.parametrize("text", NO_DIALS)
def test_other_dials_are_refused(text):
    with pytest.raises(UserError, match="--dial"):
        parse_dial(text)


def test_tags_may_say_where_they_are():
    assert parse_tags(" dog@0.1, 0.2,0.6,0.9 , red  car,dog") == ("dog@0.1,0.2,0.6,0.9", "red car", "dog")
    assert located("dog@0.1,0.2,0.6,0.9") == ("dog", (0.1, 0.2, 0.6, 0.9))
    assert located("dog") == ("dog", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog@0.1,0.2,0.6,1.2", "not within the picture"),
        ("dog@0.6,0.2,0.1,0.9", "not within the picture"),
        ("dog@-0.1,0,1,1", "not within the picture"),
        ("dog@nan,0,1,1", "not within the picture"),
        ("dog@0.1,0.2", "does not say where"),
        ("cat, dog@left", "does not say where"),
    ],
)
def test_other_places_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_tags(text)
    with pytest.raises(ValidationError, match=message):
        Settings(tags=(text.removeprefix("cat, "),))


def test_a_name_without_a_box_is_refused_and_the_boxes_of_one_are_laid_largest_first():
    boxes = [Box("dog", RIGHT, 0.9), Box("sky", LEFT, 0.8), Box("dog", (0.0, 0.0, 0.1, 0.1), 0.7)]
    regions = regions_of(Settings(dials=(("dog", 1.0), ("sky", 0.0))), boxes)
    assert [(region.tag, region.dial) for region in regions] == [("sky", 0.0), ("dog", 1.0), ("dog", 1.0)]
    assert overlaps(regions) == ["dog lies over sky"]
    with pytest.raises(RejectedSample, match="--dial names 'cat', found are: dog, sky"):
        regions_of(Settings(dials=(("cat", 1.0),)), boxes)
    anywhere = [Box("cat", WHOLE, 1.0)]  # asked for, and not found
    with pytest.raises(RejectedSample, match="found are: nothing"):
        regions_of(Settings(tags=("cat",), dials=(("cat", 1.0),)), anywhere)
    placed = Settings(tags=("cat@0,0,1,1",), dials=(("cat", 1.0),))
    assert regions_of(placed, anywhere)[0].box == WHOLE


def test_a_strength_may_be_for_a_place_alone_and_what_is_left_out_lies_over_all():
    boxes = [Box("dog", LEFT, 0.9), Box("dog", RIGHT, 0.8)]
    dials = (("sky@0,0,1,1", "off"), ("dog@0,0,0.5,1", 1.0), ("cat@0,0,0.1,0.1", 0.0))
    regions = regions_of(Settings(dials=dials), boxes)
    assert [(region.tag, region.dial) for region in regions] == [("dog", 1.0), ("cat", 0.0), ("sky", "off")]
    assert regions[0].box == LEFT
    with pytest.raises(ValidationError, match="not within the picture"):
        Settings(dials=(("dog@0,0,2,1", 1.0),))


def test_what_is_left_out_is_enlarged_by_bicubic():
    tiny, image = tiny_upscaler(workers=1), photograph(56, 40)
    given = Description((Box("dog", (0.5, 0.0, 1.0, 0.5), 1.0),), "blurred")
    plain, without = (
        tiny.restore(from_image(image), Settings(dials=dials), given).picture.colour.astype(int)
        for dials in ((), (("dog", "off"),))
    )
    bicubic = bicubic_upsample(to_tensor(np.asarray(image.convert("RGB"))), 4)[0].permute(1, 2, 0).numpy() * 255
    inside = np.s_[: 80 - RAMP, 112 + RAMP :]
    assert np.abs(without[inside] - bicubic.clip(0, 255)[inside]).max() <= 0.51
    assert np.array_equal(without[80:], plain[80:]) and not np.array_equal(without[inside], plain[inside])


def test_a_region_is_its_own_strength_inside_and_nothing_outside():
    canvas, sharp = np.full((200, 200, 3), 1000, np.uint16), np.full((200, 200, 3), 60000, np.uint16)
    regions = (Region("wall", 1.0, (0.0, 0.0, 0.8, 0.6)), Region("door", 0.5, (0.4, 0.2, 0.8, 0.6)))
    result = laid(canvas, regions, {0.5: canvas, 1.0: sharp})
    assert (result[120:] == 1000).all() and (result[:, 160:] == 1000).all()
    assert (result[:40, : 160 - RAMP] == 60000).all()  # the picture's own border has no ramp
    assert (result[40 + RAMP : 120 - RAMP, 80 + RAMP : 160 - RAMP] == 1000).all()  # the smaller one lies on top
    assert (np.diff(result[20, 160 - RAMP : 160, 0].astype(int)) <= 0).all()
    assert (canvas == 1000).all()


def test_outside_the_named_region_the_result_is_that_of_the_one_strength_to_the_bit():
    tiny, picture = tiny_upscaler(workers=2), from_image(photograph(56, 40))
    given = Description((Box("dog", (0.5, 0.0, 1.0, 0.5), 1.0),), "blurred")
    calls = []

    def result(dial, dials=()):
        settings = Settings(dial=dial, dials=dials)
        return tiny.restore(picture, settings, given, report=lambda done, total: calls.append((done, total)))

    plain, sharp, both = result(0.2), result(1.0), result(0.2, (("dog", 1.0),))
    inside, outside = np.s_[: 80 - RAMP, 112 + RAMP :], np.s_[80:]
    assert np.array_equal(both.picture.colour[outside], plain.picture.colour[outside])
    assert np.array_equal(both.picture.colour[:, :112], plain.picture.colour[:, :112])
    assert np.array_equal(both.picture.colour[inside], sharp.picture.colour[inside])
    assert not np.array_equal(plain.picture.colour[inside], sharp.picture.colour[inside])
    assert both.sampling == plain.sampling and [region.tag for region in both.regions] == ["dog"]
    assert calls[-1][0] == calls[-1][1]


def test_a_tag_with_a_place_is_there_and_nowhere_else():
    tiny, picture = tiny_upscaler(workers=1), from_image(photograph(56, 40))
    said = tiny.describe(picture, Settings(tags=("unicorn@0.1,0.2,0.6,0.9", "griffin"), caption="blurred"))
    assert [(box.tag, box.xyxy) for box in said.boxes] == [("unicorn", (0.1, 0.2, 0.6, 0.9)), ("griffin", WHOLE)]


def test_every_further_strength_is_memory_planned_for():
    footprint = Footprint(0, 0, 1000.0)
    once, thrice = (budget(footprint, 100, 100, 4, 1 << 30, canvases=count).expected for count in (1, 3))
    assert thrice - once == 2 * 6 * 400**2
    plain, dialled = Settings(), Settings(dials=(("dog", 1.0),))
    assert "dials" not in plain.plain() and dialled.plain()["dials"] == [["dog", 1.0]]


def test_another_strength_is_sampled_where_its_boxes_are_and_the_result_is_the_same(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "sampling", SAMPLE.model_copy(update={"steps": 1}))
    predict, calls, done = tiny.method.predict, [], []
    monkeypatch.setattr(tiny.method, "predict", lambda *given: calls.append(1) or predict(*given))
    settings = Settings(dial=0.5, dials=(("sign@0.05,0.02,0.2,0.1", 0.0),))

    def restored():
        calls.clear()
        picture = from_image(photograph(96, 64))
        result = tiny.restore(picture, settings, Description((), "blurred"), report=lambda *now: done.append(now))
        assert done[-1][0] == done[-1][1]  # what is left out counts as done
        return result.picture.colour, len(calls)

    near, few = restored()
    monkeypatch.setattr(upscaler, "of_dial", lambda *_: None)
    everywhere, all_of_them = restored()
    assert np.array_equal(near, everywhere) and (few, all_of_them) == (3, 4)
    assert grown("adain", [(0, 0, 8, 8)]) is None  # it reads the whole picture
