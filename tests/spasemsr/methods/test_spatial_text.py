"""Box encoding, box fusion, the key sequence of eq. 5 and its mask."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers.models.embeddings import get_fourier_embeds_from_boundingbox
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.methods.spasemsr.spatial_text import BoxFusion, encode_boxes, spatial_text
from tests.worlds.small_networks import random_condition


@pytest.fixture(scope="module")
def fusion() -> BoxFusion:
    """A fusion that has left its zero start."""
    torch.manual_seed(5)
    fusion = BoxFusion(32, 16)
    torch.nn.init.normal_(fusion.layers[-1].weight, std=0.3)
    torch.nn.init.normal_(fusion.layers[-1].bias, std=0.3)
    return fusion


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.25, 0.5, 0.75, 1.0)])
def test_box_encoding_is_the_closed_form(box):
    frequencies = [100.0 ** (k / 8) for k in range(8)]
    expected = []
    for u in box:
        expected += [math.sin(w * u) for w in frequencies] + [math.cos(w * u) for w in frequencies]
    encoding = encode_boxes(torch.tensor([[box]]))
    assert encoding.shape == (1, 1, 64)
    assert encoding.dtype == torch.float32
    assert torch.allclose(encoding[0, 0], torch.tensor(expected), atol=1e-5)
    assert max(frequencies) == pytest.approx(56.23, abs=0.01)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.0, 1.0, width=32), min_size=4, max_size=4))
def test_box_encoding_is_that_of_diffusers_in_another_order(box):
    boxes = torch.tensor([[box]])
    theirs = get_fourier_embeds_from_boundingbox(8, boxes)  # (1, 1, 8 frequencies * (sin, cos) * 4 coordinates)
    reordered = theirs.reshape(1, 1, 8, 2, 4).permute(0, 1, 4, 3, 2).flatten(-3)
    assert torch.allclose(encode_boxes(boxes), reordered, atol=1e-6)


def test_fusion_changes_nothing_at_the_start():
    condition = random_condition()
    rows, mask = spatial_text(condition, BoxFusion(32, 16))
    assert torch.equal(rows, condition.tokens_BNGD.flatten(1, 2))
    assert torch.equal(mask, condition.token_mask_BNG.flatten(1))
    assert rows.shape == (2, 6 * 4, 32)


def test_fusion_adds_one_displacement_per_object_to_its_valid_rows(fusion):
    condition = random_condition()
    rows, _ = spatial_text(condition, fusion)
    added = rows.view_as(condition.tokens_BNGD) - condition.tokens_BNGD
    delta = fusion(condition.pooled_BND, condition.boxes_BN4)
    mask = condition.token_mask_BNG
    expected = delta.unsqueeze(2).expand_as(added)
    assert torch.allclose(added[mask], expected[mask], atol=1e-6)
    assert not added[~mask].any()
    assert added[:, 0].any()  # the null object passes through the same fusion


def test_equal_text_at_two_places_is_told_apart_by_its_box(fusion):
    condition = random_condition()
    pooled, boxes = condition.pooled_BND.clone(), condition.boxes_BN4.clone()
    pooled[:, 2] = pooled[:, 1]
    same = fusion(pooled, boxes.index_copy(1, torch.tensor([2]), boxes[:, 1:2]))
    apart = fusion(pooled, boxes)
    assert torch.allclose(same[:, 1], same[:, 2], atol=1e-6)
    assert not torch.allclose(apart[:, 1], apart[:, 2], atol=1e-3)


def test_boxes_can_be_off_for_a_sample_or_for_all(fusion):
    condition = random_condition()
    plain = condition.tokens_BNGD.flatten(1, 2)
    assert torch.equal(spatial_text(condition, None)[0], plain)
    rows, _ = spatial_text(replace(condition, use_boxes_B=torch.tensor([False, True])), fusion)
    assert torch.equal(rows[0], plain[0])
    assert not torch.equal(rows[1], plain[1])


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(1, 6)))
def test_reordering_objects_reorders_rows_exactly(order, fusion):
    condition = random_condition()
    index = torch.tensor([0, *order])
    permuted = replace(
        condition,
        tokens_BNGD=condition.tokens_BNGD[:, index],
        token_mask_BNG=condition.token_mask_BNG[:, index],
        pooled_BND=condition.pooled_BND[:, index],
        boxes_BN4=condition.boxes_BN4[:, index],
    )
    rows, mask = spatial_text(condition, fusion)
    permuted_rows, permuted_mask = spatial_text(permuted, fusion)
    assert torch.equal(permuted_rows.view(2, 6, 4, 32), rows.view(2, 6, 4, 32)[:, index])
    assert torch.equal(permuted_mask.view(2, 6, 4), mask.view(2, 6, 4)[:, index])


def test_a_sample_without_a_valid_row_is_refused():
    condition = random_condition(batch=3)
    mask = condition.token_mask_BNG.clone()
    mask[1] = False
    with pytest.raises(ValueError, match=r"samples \[1\] have no valid text row"):
        spatial_text(replace(condition, token_mask_BNG=mask), None)
