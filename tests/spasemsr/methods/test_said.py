"""What a person says of a place: it counts several times over, inside its box and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from spasemsr.backends.autoencoder.block_dct import BlockDCT
from spasemsr.backends.autoencoder.spec import BlockDCTSpec
from spasemsr.data.dataset import joined
from spasemsr.diffusion.coverage import covered
from spasemsr.methods.noise import Noise
from spasemsr.methods.said import MOST_TAKEN, as_known, followed
from tests.worlds.small_methods import TWO, objects_of, sampling, small_batch, small_method

NOISE = Noise(7, 0)
FOUND = objects_of(("wall", (0.0, 0.0, 1.0, 1.0), 0.7))
BOX = (0.25, 0.0, 0.5, 0.5)
SAID = objects_of(("strong texture", BOX, 1.0), ("wall", (0.0, 0.0, 1.0, 1.0), 0.7))


def _unclamped(latents_BChw):
    return functional.interpolate((latents_BChw[:, :3] + 1) / 2, scale_factor=8.0)


def _restored(said, height=32, width=64, prediction="residual", **changes):
    """(3, 4 height, 4 width): one step, so that no step sees what another one changed."""
    batch = replace(small_batch(["a"], height, width, training=False), objects=[FOUND], said=[said] if said else [])
    picked = {"steps": 1, "colorfix": "none", "tile": 16, "tile_overlap": 4} | changes
    method = small_method(spatial={"binding": "bias"}, schedule={"prediction": prediction})
    method.autoencoder.decode = _unclamped
    return method.restore(batch, NOISE, sampling(**picked))[0]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_outside_its_box_every_bit_is_as_found(guidance):
    found, said = (_restored(objects, guidance=guidance) for objects in (None, SAID))
    changed = (found != said).any(0)
    inside = torch.zeros_like(changed)
    inside[:64, 64:128] = True
    assert changed[inside].float().mean() > 0.9
    assert not changed[~inside].any()


def test_it_counts_as_often_as_the_emphasis_says():
    found, once, thrice = (_restored(SAID, prediction="sample", emphasis=strength) for strength in (0.0, 0.1, 0.3))
    assert torch.equal(found, _restored(None, prediction="sample"))
    free = ((thrice > 0) & (thrice < 1) & (found > 0) & (found < 1)).all(0)  # others end at black or white
    assert (once - found)[:, free].abs().max() > 1e-4
    assert torch.allclose(3 * (once - found)[:, free], (thrice - found)[:, free], atol=1e-5)


def test_it_is_added_whole_however_little_of_the_rest_is():
    whole, half, nothing = (
        _restored(SAID, emphasis=0.1, share=share) - _restored(None, share=share) for share in (1.0, 0.5, 0.0)
    )
    inside = whole[:, 8:56, 72:120]
    assert inside.abs().mean() > 1e-4
    assert half[:, 8:56, 72:120].abs().mean() > 0.7 * inside.abs().mean()
    assert not nothing.any()


DETAIL = BlockDCT(BlockDCTSpec(kind="block_dct", keep=4)).detail


FINE = [2, 3, *range(6, 16)]


def test_of_y_what_is_finer_than_a_slope_is_detail_of_colours_nothing():
    assert DETAIL.flatten().nonzero().flatten().tolist() == FINE


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 20.0), st.floats(0.3, 0.99))
def test_less_detail_said_is_less_detail_whatever_else_differs(seed, weight, strength):
    draw = torch.Generator().manual_seed(seed)
    there, known = (torch.randn(1, 48, 8, 8, generator=draw) for _ in range(2))
    said = strength * known.index_copy(1, torch.tensor(FINE), known[:, FINE].roll(1, dims=1))  # of other shape
    change = followed(there, said, known, torch.full((1, 1, 8, 8), weight), DETAIL)
    kept = max(strength**weight, MOST_TAKEN)
    assert torch.allclose((there + change)[:, FINE], kept * there[:, FINE], atol=1e-4)
    assert not change[:, [channel for channel in range(48) if channel not in FINE]].any()


def test_half_the_strength_said_once_is_half_of_what_is_there_and_twice_no_less():
    there, known = torch.full((1, 48, 6, 6), 3.0), torch.ones(1, 48, 6, 6)
    for times in (1.0, 2.0):
        change = followed(there, 0.5 * known, known, torch.full((1, 1, 6, 6), times), DETAIL)
        assert torch.allclose((there + change)[:, FINE], torch.tensor(1.5), atol=1e-3)


def test_more_detail_said_is_added_as_often_as_it_counts_and_nowhere_else():
    there, known = torch.zeros(1, 48, 6, 6), torch.ones(1, 48, 6, 6)
    weights = torch.zeros(1, 1, 6, 6)
    weights[..., :3] = 4.0
    change = followed(there, 1.5 * known, known, weights, DETAIL)
    assert torch.allclose(change[:, FINE, :, :3], torch.tensor(2.0)) and not change[..., 3:].any()


def test_what_is_added_turns_no_detail_over():
    there = torch.tensor([2.0, -2.0]).repeat(24)[None, :, None, None].expand(1, 48, 6, 6)
    known, said = torch.full((1, 48, 6, 6), 0.1), torch.full((1, 48, 6, 6), 9.0)
    result = there + followed(there, said, known, torch.ones(1, 1, 6, 6), DETAIL)
    assert (result[:, FINE] * there[:, FINE] > 0).all()


def test_it_is_compared_with_what_most_of_its_place_was_called():
    left, right = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
    found = objects_of(("cat", left, 0.9), ("perhaps faint texture", left, 0.7), ("perhaps strong texture", right, 0.6))
    said = objects_of(("smooth surface", (0.4, 0.0, 1.0, 1.0), 1.0), ("cat", left, 0.9))
    known = as_known(said, found)
    assert known.tags == ["strong texture", "cat"] and np.array_equal(known.boxes, said.boxes)
    thing = objects_of(("dog", left, 1.0), ("perhaps faint texture", left, 0.7))
    assert as_known(thing, found) is found  # a thing that is called otherwise is compared with all that was found
    assert as_known(said, objects_of(("cat", left, 0.9))).tags == ["cat"]


def test_a_box_of_many_tiles_is_heard_in_each():
    """A tile that shows less than a tenth of an object leaves it out; what a person says holds in every part."""
    names = ("strong texture", "smooth surface")
    said = (objects_of((name, (0.0, 0.0, 1.0, 1.0), 1.0)) for name in names)
    one, other = (_restored(each, 128, 128, prediction="sample", emphasis=0.1) for each in said)
    cells = (one != other).any(0).unfold(0, 8, 8).unfold(1, 8, 8).any(-1).any(-1)
    assert cells.float().mean() > 0.7  # elsewhere both are black or white


def test_who_says_what_was_found_changes_nothing():
    assert torch.equal(_restored(FOUND), _restored(None))


def test_in_a_batch_each_sample_has_its_own():
    one = replace(small_batch(["a"], training=False), objects=[FOUND], said=[SAID])
    other = small_batch(["c"], training=False)
    both, method = joined([one, other]), small_method()
    assert both.said == [SAID, *other.objects] and joined([other, other]).said == []
    apart = torch.cat([method.restore(batch, NOISE, sampling()) for batch in (one, other)])
    assert torch.allclose(method.restore(both, NOISE, sampling()), apart, atol=1e-5)


def test_the_part_of_a_cell_that_a_box_covers_in_a_padded_grid():
    boxes = torch.tensor([[[0.25, 0.5, 1.0, 1.0]]])
    assert covered(boxes, 4, 4, height=2.0, width=2.0)[0, 0].tolist() == [
        [0, 0, 0, 0],
        [0.5, 1, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_an_old_name_in_a_new_place_is_said():
    moved = replace(TWO, boxes=TWO.boxes[::-1].copy())
    batch = replace(small_batch(["a"], training=False), said=[moved])
    method = small_method(spatial={"binding": "bias"})
    plain = method.restore(replace(batch, said=[]), NOISE, sampling(steps=1))
    assert not torch.equal(method.restore(batch, NOISE, sampling(steps=1)), plain)
