"""Areas of like texture of a picture that is being restored: window by window, and below what a person says."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from pipeline.stages.ground import GroundWorker
from spasemsr.backends.extractors.texture_words import TEXTURES
from spasemsr.backends.grounding.spec import TexturesSpec
from spasemsr.backends.protocols import Box
from spasemsr.data.columns import MAX_OBJECTS
from spasemsr.data.job import Sample
from spasemsr.data.patches import Patch, make_key
from spasemsr.images.picture import from_image
from spasemsr.upscaling.description import Describer, Description
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.windows import plan
from tests.spasemsr.backends.test_grounding import SPEC
from tests.worlds.photographs import photograph, shrunk
from tests.worlds.tiny_upscaler import SAMPLE, tiny_config, tiny_upscaler

PATCH = Patch(make_key("ab" * 32, 0, 0), "train", 0, "folder", "a.png", "ab" * 32, 0, 0, 128)
LR = np.ascontiguousarray(shrunk(photograph("astronaut"), 2)[:192, :240])


@pytest.fixture(scope="module")
def describer() -> Describer:
    inference = tiny_config().inference
    ground = inference.ground.model_copy(update={"textures": TexturesSpec()})
    return Describer(inference.model_copy(update={"ground": ground}), 4)


def test_every_place_has_its_area_whatever_the_windows(describer):
    nothing, size = Description((), "sharp"), LR.shape[:2]
    whole = describer.with_areas(nothing, LR, plan(*size, *size, 4)).boxes
    assert {box.tag for box in whole} <= TEXTURES and len(whole) > 8
    assert sum(box.area for box in whole) == pytest.approx(1.0)
    windowed = describer.with_areas(nothing, LR, plan(*size, 192, 192, 4)).boxes
    assert sum(box.area for box in windowed) == pytest.approx(1.0, abs=0.25)  # those at a seam overlap, or leave some
    for boxes in (whole, windowed):
        assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)


def test_what_a_person_says_takes_the_place_of_the_areas_below_it(describer):
    size = LR.shape[:2]
    found = partial(describer.with_areas, lr=LR, windows=plan(*size, *size, 4))
    said, thing = Box("strong level texture", (0.0, 0.0, 0.5, 1.0), 1.0), Box("cat", (0.0, 0.0, 1.0, 1.0), 1.0)
    free, held = found(Description((thing,), "")).boxes, found(Description((said, thing), "")).boxes
    assert sum(box.area for box in free) == pytest.approx(2.0) and held[0] == said
    left = [box for box in held[2:] if box.xyxy[2] <= 0.5]
    assert left == [] and len(held) < len(free)


def test_what_is_said_is_kept_apart_from_what_was_found(describer):
    size = LR.shape[:2]
    windows, thing = plan(*size, *size, 4), Box("cat", (0.0, 0.0, 1.0, 1.0), 1.0)
    said = Box("strong level texture", (0.0, 0.0, 0.5, 1.0), 1.0)
    seen, free = (describer.seen(Description(boxes, "dark"), LR, windows) for boxes in ((said, thing), (thing,)))
    assert (
        seen.objects.tags
        == free.objects.tags
        == describer.with_areas(Description((thing,), ""), LR, windows).objects.tags
    )
    assert seen.said.tags[:2] == [said.tag, "cat"] and free.said is None
    assert seen.caption == "dark"


def test_a_texture_said_of_a_place_changes_that_place_alone(describer):
    upscaler, picture = tiny_upscaler(), from_image(Image.fromarray(LR[:64, :96]))
    upscaler._describer = describer
    upscaler.sampling = SAMPLE.model_copy(update={"steps": 1, "start": 1.0, "colorfix": "none"})
    said = Box("strong level texture", (0.0, 0.0, 0.5, 1.0), 1.0)
    one, other = (
        upscaler.restore(picture, Settings(), Description(boxes, "dark")).picture.colour for boxes in ((), (said,))
    )
    changed = (one != other).any(-1)
    assert changed[:, :192].mean() > 0.1 and not changed[:, 192:].any()


def test_without_textures_nothing_is_added():
    nothing, alone = Description((), "sharp"), Describer(tiny_config().inference, 4)
    assert alone.with_areas(nothing, LR, []) is nothing
    texture = Description((Box("strong texture", (0.0, 0.0, 1.0, 1.0), 1.0),), "sharp")
    assert alone.seen(texture, LR, []).said is None  # it knows no such words: a name like any other
    assert alone.seen(texture, LR, []).objects.tags == ["strong texture"]


@pytest.mark.parametrize(("recognised", "source"), [(0.0, "hr"), (1.0, "restored")])
def test_textures_of_training_patches_are_measured_or_guessed(recognised, source):
    spec = SPEC.model_copy(update={"textures": TexturesSpec(recognised=recognised, doubted=True)})
    hr, restored = photograph("coffee", 128), photograph("grass", 128)
    made, both = GroundWorker(spec), {"hr.png": hr, "restored.png": restored}
    (found,) = made([Sample(PATCH, 0, both)])
    boxes = {"hr": made._areas.measured(hr), "restored": made._areas.recognised(restored)}[source]
    objects = found["objects.json"]
    areas = [(tag, tuple(box)) for tag, box in zip(objects["tags"], objects["boxes"], strict=True) if tag in TEXTURES]
    assert areas == [(box.tag, box.xyxy) for box in boxes]
    assert {tag.startswith("perhaps ") for tag, _ in areas} == {source == "restored"}
    assert objects["source"] == "hr" and set(np.unique(found["masks.png"])) <= set(range(len(objects["tags"]) + 1))


def test_a_patch_of_very_many_areas_keeps_as_many_as_masks_can_number():
    spec = SPEC.model_copy(update={"textures": TexturesSpec(most=500, recognised=0.0)})
    made = GroundWorker(spec)
    noise = np.random.default_rng(0).integers(0, 256, (768, 768, 3), np.uint8)
    noise[::48] = noise[:, ::32] = 0
    hr = np.kron(np.random.default_rng(1).integers(0, 2, (32, 32, 1), np.uint8), np.ones((24, 24, 1), np.uint8)) * noise
    (found,) = made([Sample(PATCH, 0, {"hr.png": hr})])
    assert len(made._areas.measured(hr)) > MAX_OBJECTS == len(found["objects.json"]["tags"])
    assert MAX_OBJECTS - 5 <= found["masks.png"].max() <= MAX_OBJECTS  # an area may lie under things altogether
