"""Scenes: nothing of a texture is left in lr, a picture is found again, and the classifier reads what was drawn."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from spasemsr.backends.captioner.known import KnownCaptioner
from spasemsr.backends.extractors.known import KnownFeatures, KnownLabels
from spasemsr.backends.grounding.known import KnownDetector, KnownSegmenter, KnownTagger
from spasemsr.backends.protocols import Box
from spasemsr.backends.restorer.bicubic import BicubicRestorer
from spasemsr.data.area_mean import area_mean
from spasemsr.errors import UserError
from spasemsr.scenes.lookup import scene_of
from spasemsr.scenes.reading import agreement
from spasemsr.scenes.scene import LEVELS, TEXTURES, make_scene, pattern
from spasemsr.scenes.spec import ScenesSpec
from tests.worlds.photographs import photograph

SPEC = ScenesSpec(count=40)
SCENES = [make_scene(SPEC, number) for number in range(SPEC.count)]


@pytest.mark.parametrize("name", TEXTURES)
@pytest.mark.parametrize("level", LEVELS.values())
def test_a_texture_has_mean_zero_in_every_cell_of_lr_and_is_strong(name, level):
    block = pattern(name, level)
    assert not block.reshape(2, 4, 2, 4).sum(axis=(1, 3)).any()
    assert np.sqrt(np.mean(block.astype(float) ** 2)) == pytest.approx(level, rel=0.03)


def test_lr_is_the_same_whatever_the_textures():
    for scene in SCENES[:10]:
        renamed = [_renamed(scene, names) for names in (scene.names[::-1], list(TEXTURES)[: len(scene.names)])]
        others = [*renamed, replace(scene, caption=next(c for c in LEVELS if c != scene.caption))]
        lr = area_mean(scene.picture(), 4, 2.0, seed=1)[0]
        assert np.array_equal(area_mean(scene.flat(), 4, 2.0, seed=1)[0], lr)
        assert all(np.array_equal(area_mean(other.picture(), 4, 2.0, seed=1)[0], lr) for other in others)
        assert not np.array_equal(area_mean(scene.flat(), 4, 2.0, seed=2)[0], lr)


def test_scenes_are_functions_of_their_number_and_hold_what_the_spec_says():
    assert [make_scene(SPEC, n) for n in range(5)] == SCENES[:5]
    assert {len(scene.regions) for scene in SCENES} == {2, 3, 4}
    assert {scene.caption for scene in SCENES} == set(LEVELS)
    assert {name for scene in SCENES for name in scene.names} == set(TEXTURES)
    for scene in SCENES:
        assert len(set(scene.names)) == len(scene.names)
        masks, labels = scene.masks(), scene.labels()
        for number, (region, (x0, y0, x1, y1)) in enumerate(zip(scene.regions, scene.boxes, strict=True), start=1):
            rows, columns = np.nonzero(masks == number)
            inside = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert inside == (region.y0, region.x0, region.y1, region.x1)
            assert (y0 * 64, x0 * 64, y1 * 64, x1 * 64) == inside
            assert not any(edge % 8 for edge in inside)
            assert (labels[masks == number] == list(TEXTURES).index(region.name) + 1).all()
        assert ((labels > 0) == (masks > 0)).all()
    with pytest.raises(ValueError, match="scenes 0 to 39"):
        make_scene(SPEC, 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"most": 5}, r"a picture of 64 pixels holds up to 4"),
        ({"fewest": 4, "most": 3}, "do not fit"),
        ({"side": 72}, "side must be a multiple of 32"),
        ({"most": 7, "side": 128}, "less than or equal to 6"),
    ],
)
def test_a_world_with_more_regions_than_its_canvas_holds_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        ScenesSpec.model_validate({"count": 10} | changes)


def test_hr_lr_and_restored_show_which_scene_it_is():
    for scene in SCENES:
        lr = area_mean(scene.picture(), 4, 4.0, seed=scene.number)[0]
        (restored,) = BicubicRestorer().restore([lr], 4)
        for picture in (scene.picture(), lr, restored):
            assert scene_of(picture, SPEC).number == scene.number


def test_a_photograph_is_no_scene():
    for picture in (photograph("astronaut", 64), photograph("chelsea", 72), photograph("coffee", 64)[:32]):
        with pytest.raises(UserError, match="knows 40 scenes of 64 pixels"):
            scene_of(np.ascontiguousarray(picture), SPEC)


def test_known_backends_say_the_truth_of_whatever_shows_the_scene():
    scene = SCENES[3]
    lr = area_mean(scene.picture(), 4, 2.0, seed=0)[0]
    (restored,) = BicubicRestorer().restore([lr], 4)
    for picture in (scene.picture(), restored):
        (tags,) = KnownTagger(SPEC).tag([picture])
        assert [tag.text for tag in tags] == scene.names
        (boxes,) = KnownDetector(SPEC).detect([picture], [tags])
        assert [(box.tag, box.xyxy) for box in boxes] == [
            (name, tuple(box)) for name, box in zip(scene.names, scene.boxes.tolist(), strict=True)
        ]
        (masks,) = KnownSegmenter(SPEC).segment([picture], [boxes])
        assert np.array_equal(masks, scene.masks())
        assert KnownDetector(SPEC).detect([picture], [tags[:1]]) == [boxes[:1]]
        near = Box("anything", tuple(np.clip(scene.boxes[1] + 0.02, 0, 1)), 1.0)
        assert np.array_equal(KnownSegmenter(SPEC).segment([picture], [[near]])[0] == 1, scene.masks() == 2)
        (labels,), (features,) = KnownLabels(SPEC).extract([picture]), KnownFeatures(SPEC).extract([picture])
        assert np.array_equal(np.kron(labels[0], np.ones((8, 8))), scene.labels())
        assert np.array_equal(features.argmax(0) + 1, np.maximum(labels[0], 1))
        assert np.array_equal(features.sum(0), labels[0] > 0)  # nothing is no channel
    assert KnownCaptioner(SPEC).caption([lr]) == [scene.caption]


def _renamed(scene, names):
    return replace(scene, regions=tuple(replace(r, name=n) for r, n in zip(scene.regions, names, strict=True)))


def test_the_classifier_reads_what_was_drawn_and_no_strength_from_flat_colours():
    for scene in SCENES:
        full = agreement(scene.picture(), scene)
        assert (full.place, full.kind, full.level) == (1, 1, 1)
        moved = agreement(_renamed(scene, [*scene.names[1:], scene.names[0]]).picture(), scene)
        assert (moved.place, moved.kind, moved.level) == (0, 1, 1)
        absent = [name for name in TEXTURES if name not in scene.names][:2]
        other = agreement(_renamed(scene, [*absent, *scene.names[2:]]).picture(), scene, [0, 1])
        assert (other.place, other.kind) == (0, 0)
        assert agreement(scene.flat(), replace(scene, caption="strong detail")).level == 0


def test_a_blend_of_both_textures_is_not_both():
    scene = SCENES[0]
    turned = _renamed(scene, [scene.names[1], scene.names[0], *scene.names[2:]])
    blend = ((scene.picture().astype(int) + turned.picture()) // 2).astype(np.uint8)
    assert agreement(blend, scene, [0]).place + agreement(blend, turned, [0]).place <= 1
