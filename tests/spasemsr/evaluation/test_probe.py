"""The probe's questions and its table, answered by pictures instead of a network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spasemsr.backends.extractors.known import KnownLabels
from spasemsr.data.dataset import Objects
from spasemsr.evaluation.findings import PROBE_ROWS
from spasemsr.evaluation.probe import Maps, answer, lines, questions, rows, table
from spasemsr.scenes.scene import LEVELS, TEXTURES, make_scene
from spasemsr.scenes.spec import ScenesSpec
from tests.worlds.small_methods import small_batch

ALL = frozenset({"tags", "boxes", "caption", "maps"})
LABELS = KnownLabels(ScenesSpec(count=20))
MAPS = Maps(["regions"], lambda scene: {"regions": torch.from_numpy(LABELS.of(scene)).float()[None]})
SPEC = ScenesSpec(count=20)
SCENES = [make_scene(SPEC, number) for number in range(SPEC.count)]


def _batch(scene):
    objects = Objects(scene.names, scene.boxes.astype(np.float32), [1.0] * len(scene.names), "restored")
    return replace(
        small_batch(["a"], training=False), objects=[objects], captions=[scene.caption], features=MAPS.of(scene)
    )


def test_each_row_tells_one_thing_and_asks_for_the_scene_that_follows():
    scene = SCENES[0]
    asked_of = {question.row: question for question in questions(_batch(scene), scene, ALL, MAPS)}
    assert list(asked_of) == list(PROBE_ROWS)
    assert asked_of["own"].asked == scene
    asked = asked_of["exchanged"]
    assert asked.asked.names == [scene.names[1], scene.names[0], *scene.names[2:]]
    assert asked.batch.objects[0].tags == asked.asked.names and asked.regions == (0, 1)
    assert not asked_of["unplaced"].batch.objects[0].located
    assert asked_of["untagged"].batch.objects[0].tags == []
    mapped = asked_of["remapped"]
    assert mapped.asked == asked.asked and mapped.batch.objects[0].tags == scene.names
    (labels,) = mapped.batch.features["regions"][0].numpy()
    first, second = (region.crop(np.kron(labels, np.ones((8, 8)))) for region in scene.regions[:2])
    classes = [list(TEXTURES).index(name) + 1 for name in scene.names]
    assert (first == classes[1]).all() and (second == classes[0]).all()
    assert not asked_of["unmapped"].batch.features["regions"].any()
    assert asked_of["recaptioned"].asked.caption == asked_of["recaptioned"].batch.captions[0] != scene.caption


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (set(), ["own"]),
        ({"tags"}, ["own", "untagged"]),
        ({"caption"}, ["own", "recaptioned"]),
        ({"tags", "boxes"}, ["own", "exchanged", "unplaced", "untagged"]),
        ({"maps"}, ["own", "remapped", "unmapped"]),
    ],
)
def test_a_method_is_asked_about_what_it_has(conditions, expected):
    assert rows(frozenset(conditions)) == expected
    assert [q.row for q in questions(_batch(SCENES[0]), SCENES[0], frozenset(conditions), MAPS)] == expected


def test_who_draws_what_is_asked_gets_everything_right_and_who_draws_flat_colours_only_chance():
    asked = [question for scene in SCENES for question in questions(_batch(scene), scene, ALL, MAPS)]
    perfect = table([answer(question, question.asked.picture()) for question in asked])
    assert list(perfect) == list(PROBE_ROWS)
    for row in perfect.values():
        assert (row["place"], row["kind"], row["level"], row["psnr"]) == (1, 1, 1, 80)
        assert row["place_by_chance"] == pytest.approx(1 / 6, abs=1e-4) and row["level_by_chance"] == 1 / len(LEVELS)
    assert perfect["exchanged"]["regions"] == perfect["remapped"]["regions"] == 2 * len(SCENES)
    assert perfect["own"]["regions"] == sum(len(scene.regions) for scene in SCENES)
    flat = table(
        [answer(question, scene.flat()) for scene in SCENES for question in questions(_batch(scene), scene, ALL, MAPS)]
    )
    assert flat["own"]["place"] < 0.5 and flat["own"]["psnr"] < 27
    deaf = table(
        [answer(question, SCENES[0].picture()) for question in questions(_batch(SCENES[0]), SCENES[0], ALL, MAPS)]
    )
    assert (deaf["own"]["place"], deaf["exchanged"]["place"], deaf["exchanged"]["kind"]) == (1, 0, 1)
    assert (deaf["recaptioned"]["level"], deaf["recaptioned"]["place"]) == (0, 1)
    assert len(list(lines(perfect))) == 1 + len(PROBE_ROWS)
