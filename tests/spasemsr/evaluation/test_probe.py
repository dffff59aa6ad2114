"""The probe's questions and its table, answered by pictures instead of a network."""

from dataclasses import replace

import numpy as np
import pytest

from spasemsr.data.dataset import Objects
from spasemsr.evaluation.findings import PROBE_ROWS
from spasemsr.evaluation.probe import answer, lines, questions, rows, table
from spasemsr.scenes.scene import LEVELS, make_scene
from spasemsr.scenes.spec import ScenesSpec
from tests.worlds.small_methods import small_batch

ALL = frozenset({"tags", "boxes", "caption"})
SPEC = ScenesSpec(count=20)
SCENES = [make_scene(SPEC, number) for number in range(SPEC.count)]


def _batch(scene):
    objects = Objects(scene.names, scene.boxes.astype(np.float32), [1.0] * len(scene.names), "restored")
    return replace(small_batch(["a"], training=False), objects=[objects], captions=[scene.caption])


def test_each_row_tells_one_thing_and_asks_for_the_scene_that_follows():
    scene = SCENES[0]
    told = {question.row: question for question in questions(_batch(scene), scene, ALL)}
    assert list(told) == list(PROBE_ROWS)
    assert told["own"].asked == scene
    asked = told["exchanged"]
    assert asked.asked.names == [scene.names[1], scene.names[0], *scene.names[2:]]
    assert asked.batch.objects[0].tags == asked.asked.names and asked.regions == (0, 1)
    assert not told["unplaced"].batch.objects[0].located
    assert told["untagged"].batch.objects[0].tags == []
    assert told["recaptioned"].asked.caption == told["recaptioned"].batch.captions[0] != scene.caption


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (set(), ["own"]),
        ({"tags"}, ["own", "untagged"]),
        ({"caption"}, ["own", "recaptioned"]),
        ({"tags", "boxes"}, ["own", "exchanged", "unplaced", "untagged"]),
    ],
)
def test_a_method_is_asked_about_what_it_has(conditions, expected):
    assert rows(frozenset(conditions)) == expected
    assert [q.row for q in questions(_batch(SCENES[0]), SCENES[0], frozenset(conditions))] == expected


def test_who_draws_what_is_asked_gets_everything_right_and_who_draws_flat_colours_only_chance():
    asked = [question for scene in SCENES for question in questions(_batch(scene), scene, ALL)]
    perfect = table([answer(question, question.asked.picture()) for question in asked])
    assert list(perfect) == list(PROBE_ROWS)
    for row in perfect.values():
        assert (row["place"], row["kind"], row["level"], row["psnr"]) == (1, 1, 1, 80)
        assert row["place_by_chance"] == pytest.approx(1 / 6, abs=1e-4) and row["level_by_chance"] == 1 / len(LEVELS)
    assert perfect["exchanged"]["regions"] == 2 * len(SCENES)
    assert perfect["own"]["regions"] == sum(len(scene.regions) for scene in SCENES)
    flat = table(
        [answer(question, scene.flat()) for scene in SCENES for question in questions(_batch(scene), scene, ALL)]
    )
    assert flat["own"]["place"] < 0.5 and flat["own"]["psnr"] < 27
    deaf = table([answer(question, SCENES[0].picture()) for question in questions(_batch(SCENES[0]), SCENES[0], ALL)])
    assert (deaf["own"]["place"], deaf["exchanged"]["place"], deaf["exchanged"]["kind"]) == (1, 0, 1)
    assert (deaf["recaptioned"]["level"], deaf["recaptioned"]["place"]) == (0, 1)
    assert len(list(lines(perfect))) == 1 + len(PROBE_ROWS)
