"""Conditions removed and replaced: the edits, the audit's rows and what makes none, attention inside over outside."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spasemsr.evaluation.attention import attention_ratios, watched
from spasemsr.evaluation.audit import Case, _change, agreement, audit
from spasemsr.evaluation.conditions import exchanged, in_state, moved, retagged, unplaced, untagged
from spasemsr.evaluation.findings import CHANGE
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.methods.noise import Noise
from spasemsr.methods.spasemsr.binding import FULL
from tests.worlds.small_methods import NONE, TWO, objects_of, sampling, small_batch, small_method

ALL = frozenset({"tags", "boxes", "caption"})
OTHER = replace(small_batch(["b"], training=False), objects=[objects_of(("tree", (0.2, 0.2, 0.5, 0.6), 0.8))])
BATCH = small_batch(["a"], training=False)


def test_edits_change_what_they_name_and_nothing_else():
    (edited,) = exchanged(BATCH, "red car", "sky").objects
    assert edited.tags == ["sky", "red car"] and np.array_equal(edited.boxes, TWO.boxes)
    (edited,) = retagged(BATCH, ["tree"]).objects
    assert edited.tags == ["tree", "tree"] and np.array_equal(edited.boxes, TWO.boxes)
    (edited,) = moved(BATCH, OTHER.objects[0].boxes).objects
    assert edited.tags == TWO.tags and np.array_equal(edited.boxes, OTHER.objects[0].boxes[[0, 0]])
    (edited,) = unplaced(BATCH).objects
    assert edited.tags == TWO.tags and not edited.located
    (edited,) = untagged(BATCH).objects
    assert edited.tags == [] and edited.boxes.shape == (0, 4) and edited.scores == []
    assert retagged(BATCH, []).objects[0].tags == []
    assert not moved(BATCH, NONE.boxes).objects[0].located
    truth = replace(BATCH, objects=OTHER.objects)
    assert in_state(BATCH, "tags", "truth", OTHER, truth, {}).objects == OTHER.objects
    assert in_state(BATCH, "boxes", "truth", OTHER, truth, {}) is None
    assert in_state(BATCH, "tags", "truth", OTHER, None, {}) is None
    assert in_state(BATCH, "caption", "none", OTHER, None, {}).captions == [""]
    assert in_state(BATCH, "caption", "other", OTHER, None, {}).captions == OTHER.captions
    assert in_state(BATCH, "caption", "own", OTHER, None, {}) is BATCH


def test_maps_and_soft_prompts_are_features_silenced_or_taken_from_another_picture():
    names = {"maps": ("edges", "regions"), "soft": ("soft",)}
    features = {"edges": torch.ones(1, 1, 4, 4), "regions": torch.full((1, 1, 4, 4), 3.0), "soft": torch.ones(1, 5, 2)}
    own = replace(BATCH, features=features)
    other = replace(OTHER, features={name: value * 2 for name, value in features.items()})
    none = in_state(own, "maps", "none", other, None, names).features
    assert not none["edges"].any() and not none["regions"].any() and torch.equal(none["soft"], features["soft"])
    for state, source in (("other", (other, None)), ("truth", (own, other))):
        found = in_state(own, "soft", state, *source, names).features
        assert torch.equal(found["soft"], 2 * features["soft"]) and torch.equal(found["edges"], features["edges"])
    assert in_state(own, "maps", "truth", other, None, names) is None
    smaller = replace(other, features={**features, "edges": torch.ones(1, 1, 2, 4)})
    assert in_state(own, "maps", "other", smaller, None, names) is None


def test_tags_without_places_are_those_of_training_without_boxes():
    method = small_method()
    assert method.condition(unplaced(BATCH), sampling()).use_boxes_B.tolist() == [False]
    dropped = small_method(drop={"text": 0, "caption": 0, "boxes": 1, "object": 0})
    trained = dropped.training_condition(small_batch(["a"]), Noise(7, 0), torch.zeros(1), torch.zeros(1))
    assert trained.use_boxes_B.tolist() == [False]


def _restoring(method):
    def restore(batches, seed):
        results = [method.restore(batch, Noise(seed, 0), sampling(steps=1))[0] for batch in batches]
        return [(255 * result.permute(1, 2, 0)).round().to(torch.uint8).numpy() for result in results]

    return restore


def _cases(method):
    restore = _restoring(method)
    return [Case(f"{n}" * 16, batch, other, truth, restore([batch], 99)[0]) for n, (batch, other, truth) in enumerate(
        [(BATCH, OTHER, replace(BATCH, objects=OTHER.objects)), (OTHER, BATCH, None)])]  # fmt: skip


@pytest.fixture(scope="module")
def found():
    method = small_method(redrawn=True)
    metrics = build_metrics(["psnr"])
    return audit(_cases(method), ALL, metrics, _restoring(method), seeds=[0, 1], condition_features={})


def test_every_state_is_a_row_of_paired_differences(found):
    rows = {(row["condition"], row["state"]): row for row in found["states"]}
    assert set(rows) == {
        ("tags", "none"), ("tags", "other"), ("tags", "truth"), ("boxes", "none"), ("boxes", "other"),
        ("caption", "none"), ("caption", "other"),
    }  # fmt: skip
    assert {key: row["images"] for key, row in rows.items()} == dict.fromkeys(rows, 2) | {("tags", "truth"): 1}
    for row in rows.values():
        change = row["differences"][CHANGE]
        assert change["mean"] > 0
        assert set(row["differences"]) == {CHANGE, "psnr"}
        assert row["images"] == 1 or change["low"] <= change["mean"] <= change["high"]
    assert rows["tags", "truth"]["differences"]["psnr"]["low"] is None  # one photograph has no interval
    assert rows["tags", "truth"]["differences"]["psnr"]["p"] is None and rows["tags", "truth"]["photographs"] == 1
    assert rows["tags", "none"]["differences"]["psnr"]["p"] >= 0.5 and rows["tags", "none"]["photographs"] == 2
    assert found["seed"]["differences"][CHANGE]["mean"] > 0
    assert found["not_used"] == ["maps", "soft"]


def test_renaming_an_object_is_measured_inside_and_outside_its_box(found):
    assert found["edit"]["images"] == 2
    assert found["edit"]["inside"] > 0 and found["edit"]["inside_db"] > 0


def test_objects_of_hr_are_looked_for_at_their_place_and_by_their_name():
    there = objects_of(("cat", (0, 0, 0.5, 1), 0.9), ("cat", (0.5, 0, 1, 1), 0.8), ("sky", (0, 0, 1, 0.2), 0.7))
    here = objects_of(("dog", (0, 0, 0.5, 0.9), 0.9), ("cat", (0.5, 0, 1, 0.9), 0.8))
    truth = replace(BATCH, objects=[there])
    case = Case("0" * 16, replace(BATCH, objects=[here]), OTHER, truth, np.zeros((8, 8, 3), np.uint8))
    assert agreement([case, replace(case, truth=None)]) == {"images": 1, "objects": 3, "placed": 2, "named": 1}
    assert agreement([replace(case, truth=None)]) is None


def test_what_changes_on_one_side_of_a_box_is_no_change_of_the_other():
    before, other = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    inside = np.zeros((64, 64, 1), bool)
    inside[16:48, 8:40] = True
    box = np.array([8, 16, 40, 48]) / 64
    changed, around = (_change(np.where(side, other, before), before, box) for side in (inside, ~inside))
    assert changed["inside"] > 50 and changed["inside_db"] > 1 and changed["outside"] == changed["outside_db"] == 0
    assert around["outside"] > 50 and around["outside_db"] > 1 and around["inside"] == around["inside_db"] == 0


def test_a_condition_that_a_method_lacks_makes_no_row():
    method = small_method()
    calls = []

    def restore(batches, seed):
        calls.extend(batches)
        return _restoring(method)(batches, seed)

    found = audit(_cases(method)[:1], frozenset({"caption"}), [], restore, seeds=[0], condition_features={})
    assert [row["condition"] for row in found["states"]] == ["caption", "caption"]
    assert found["not_used"] == ["tags", "boxes", "maps", "soft"]
    assert found["edit"] is found["grounding"] is found["seed"] is None
    assert len(calls) == 3  # its own, no caption, another's: nothing is restored for what makes no row


def test_an_image_of_which_nothing_is_said_makes_no_row():
    method = small_method()
    bare = replace(BATCH, objects=[NONE], captions=[""])
    case = Case("0" * 16, bare, bare, None, _restoring(method)([bare], 0)[0])
    found = audit([case], ALL, [], _restoring(method), [0], {})
    assert found["states"] == [] and found["edit"] is None


def test_attention_inside_over_outside_is_one_without_a_bias_and_its_exponential_with_one():
    boxes = objects_of(("left", (0.0, 0.0, 0.5, 1.0), 0.9), ("right", (0.5, 0.0, 1.0, 1.0), 0.8))
    batch = replace(BATCH, objects=[boxes])
    for binding in ("keys", "bias"):
        method = small_method(spatial={"binding": binding})
        for attention in method.attentions().values():
            torch.nn.init.zeros_(attention.to_q.weight)  # the logits are those of the bias alone
        with watched(method.attentions(), method.spec.objects.tokens, boxes, (8, 8)) as ratios:
            method.restore(batch, Noise(0, 0), sampling(steps=1))
        spatext = [value for name, value in ratios.items() if name.startswith("unet")]
        control = [value for name, value in ratios.items() if name.startswith("controlnet")]
        assert len(control) == 6 and len(spatext) == 15  # at stride 8 one cell is half inside, half outside
        assert control == pytest.approx([1.0] * 6) or binding == "bias"
        if binding == "keys":
            assert spatext == pytest.approx([1.0] * 15)
        else:
            assert min(spatext) > np.exp(-FULL) / 4
    assert not any(attention._forward_pre_hooks for attention in method.attentions().values())


def test_attention_is_measured_of_a_picture_that_is_restored_in_several_tiles():
    method = small_method()
    boxes = objects_of(("left", (0.0, 0.0, 0.5, 1.0), 0.9), ("right", (0.5, 0.0, 1.0, 1.0), 0.8))
    batch = replace(BATCH, objects=[boxes], lr=BATCH.lr.repeat(1, 1, 3, 1))  # 24 latent cells high
    whole, tiled = (attention_ratios(method, [batch], 4, 0, sampling(steps=1, tile=tile)) for tile in (32, 16))
    assert tiled == whole and len(whole) == 21


def test_attention_is_measured_at_the_places_of_the_objects_that_have_keys():
    """Without boxes equal tags are one object: what follows it has neither its keys nor its place."""
    method, sky = small_method(spatial={"boxes": False}), ("sky", (0.0, 0.0, 1.0, 0.5), 0.9)
    again, car = ("sky", (0.0, 0.0, 0.5, 1.0), 0.8), ("car", (0.5, 0.5, 1.0, 1.0), 0.7)
    batches = [replace(BATCH, objects=[objects_of(*rows)]) for rows in ((sky, again, car), (sky, car))]
    merged, alone = (attention_ratios(method, [batch], 4, 0, sampling(steps=1)) for batch in batches)
    assert merged == alone and len(alone) > 0
