"""Words bound to places by a bias: identities of the start, what it does to attention, tiles, precision, switches."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spasemsr.diffusion.attention import build_attention
from spasemsr.diffusion.tiling import Tile, boxes_in_tile
from spasemsr.errors import UserError
from spasemsr.methods.folder import load_init, save_model
from spasemsr.methods.noise import Noise
from spasemsr.methods.spasemsr.binding import FULL, RegionBias, inside_boxes
from tests.worlds.small_methods import TWO, objects_of, sampling, small_batch, small_method
from tests.worlds.small_networks import pico_network, random_condition, random_inputs, redraw_zeros

BIAS = {"spatial": {"binding": "bias"}}
NOISE = Noise(7, 0)


def _sample(network, condition, inputs):
    with torch.no_grad():
        encoded = network.encode(inputs["lr_up"], condition)
        return network.predict(inputs["latents"], inputs["timesteps"], encoded).sample


def _elsewhere(condition):
    boxes = condition.boxes_BN4.clone()
    boxes[:, 1] = torch.tensor([0.1, 0.2, 0.3, 0.9])
    return replace(condition, boxes_BN4=boxes)


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (9, 8)])
@pytest.mark.parametrize("spatext", ["cross", "full"])
def test_the_start_is_the_base_unet_bit_for_bit(size, spatext):
    network = pico_network(**BIAS, attention={"spatext": spatext}).eval()
    condition, inputs = random_condition(), random_inputs(2, *size)
    with torch.no_grad():
        base = network.unet(inputs["latents"], inputs["timesteps"], condition.base_BLD).sample
    assert torch.equal(_sample(network, condition, inputs), base)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        base = network.unet(inputs["latents"], inputs["timesteps"], condition.base_BLD).sample
        assert torch.equal(_sample(network, condition, inputs), base)


def test_control_states_start_as_without_a_bias():
    states = []
    for changes in ({}, BIAS):
        network, condition, inputs = pico_network(**changes).eval(), random_condition(), random_inputs()
        with torch.no_grad():
            encoded = network.encode(inputs["lr_up"], condition)
            states.append(
                network.control(
                    inputs["latents"], inputs["timesteps"], encoded.features_BChw, encoded.spatial_BMD,
                    encoded.spatial_mask_BM, encoded.caption_BLD, inside_BNhw=encoded.inside_BNhw,
                )
            )  # fmt: skip
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_a_network_with_the_keys_alone_is_the_one_it_was():
    keys, bias = pico_network(), pico_network(**BIAS)
    names = {name for part in (keys, bias) for name in part.trainable()}
    assert names - set(keys.trainable()) == {"binding"}
    strengths = torch.cat([p for p in bias.trainable()["binding"].control.parameters()])
    assert not strengths.any()
    assert all((p == 1).all() for p in bias.trainable()["binding"].spatext.parameters())
    extra = sum(p.numel() for p in bias.trainable()["binding"].parameters())
    assert extra == sum(2 for _ in range(7 + 16))  # a strength per head
    condition, inputs = random_condition(), random_inputs()
    assert keys.encode(inputs["lr_up"], condition).inside_BNhw is None


def test_cells_outside_a_box_attend_to_its_words_less_and_to_nothing_else_more_than_they_must():
    draw = torch.Generator().manual_seed(0)
    block = build_attention("cross", 16, 32, heads=2, groups=8)
    with torch.no_grad():
        block.attn2.to_q.weight.zero_()  # all keys alike, so that the bias alone decides
    boxes = torch.tensor([[[0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 1]]])
    inside = inside_boxes(boxes, torch.tensor([True]), 4, 4)
    bias = RegionBias(heads=2, start=1.0)
    mask = torch.ones(1, 3, dtype=torch.bool)
    values = torch.eye(3, 32)[None]
    seen = bias(inside, mask, (4, 4))
    assert seen.shape == (2, 16, 3)
    weights = torch.softmax(seen, -1)[0].reshape(4, 4, 3)
    outside = np.exp(FULL) / (2 + np.exp(FULL))
    assert torch.allclose(weights[:, :2, 2], torch.tensor(outside, dtype=torch.float32))
    assert torch.allclose(weights[:, 2:, 1], torch.tensor(outside, dtype=torch.float32))
    assert torch.allclose(weights[:, :2, 0], weights[:, :2, 1])
    x = torch.randn(1, 16, 4, 4, generator=draw)
    out = block(x, values, seen) - x
    assert (out[..., :2] - out[..., 2:]).abs().max() > 1e-3
    flat = block(x, values, mask) - x
    assert torch.allclose(flat[..., :2], flat[..., 2:], atol=1e-6)


def test_coverage_is_exact_on_the_grid_and_a_share_between():
    boxes = torch.tensor([[[0, 0, 0, 0], [0.25, 0.0, 0.75, 1.0], [0.125, 0.0, 1.0, 0.5]]])
    inside = inside_boxes(boxes, torch.tensor([True]), 2, 4)
    assert (inside[0, 0] == 1).all()  # the null object is everywhere, whatever its box
    assert inside[0, 1].tolist() == [[0, 1, 1, 0]] * 2
    assert inside[0, 2].tolist() == [[0.5, 1, 1, 1], [0, 0, 0, 0]]
    assert (inside_boxes(boxes, torch.tensor([False]), 2, 4) == 1).all()


def test_a_box_acts_from_where_it_is_once_the_projections_have_moved():
    condition, inputs = random_condition(), random_inputs()
    fresh = pico_network(**BIAS).eval()
    assert torch.equal(_sample(fresh, condition, inputs), _sample(fresh, _elsewhere(condition), inputs))
    moved = redraw_zeros(pico_network(**BIAS), scale=0.1).eval()
    for part in moved.fusion.parameters():
        torch.nn.init.zeros_(part)  # the displacement of the keys says nothing
    change = (_sample(moved, condition, inputs) - _sample(moved, _elsewhere(condition), inputs)).abs()
    assert change.amax((1, 2, 3)).min() > 1e-5


def test_masked_objects_and_samples_without_boxes_are_bound_to_nothing():
    network = redraw_zeros(pico_network(**BIAS), scale=0.1).eval()
    condition, inputs = random_condition(), random_inputs()
    absent = ~condition.token_mask_BNG.any(dim=2, keepdim=True)
    other = replace(condition, boxes_BN4=torch.where(absent, torch.full((), 0.9), condition.boxes_BN4))
    assert torch.equal(_sample(network, condition, inputs), _sample(network, other, inputs))
    unlocated = replace(condition, use_boxes_B=torch.tensor([False, True]))
    one, other = (_sample(network, each, inputs) for each in (unlocated, _elsewhere(unlocated)))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


def test_strengths_train_and_checkpointing_changes_no_gradient():
    network = redraw_zeros(pico_network(**BIAS))
    condition, inputs = random_condition(), random_inputs()
    gradients = []
    for network.gradient_checkpointing in (False, True):
        network.zero_grad(set_to_none=True)
        encoded = network.encode(inputs["lr_up"], condition)
        network.predict(inputs["latents"], inputs["timesteps"], encoded).sample.square().mean().backward()
        gradients.append([p.grad.clone() for p in network.trainable()["binding"].parameters()])
    assert all(grad.any() for grad in gradients[0])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_the_gradient_of_a_strength_is_that_of_the_formula():
    block, bias = build_attention("cross", 16, 32, heads=2, groups=8).double(), RegionBias(2, start=0.3).double()
    x, kv = torch.randn(1, 16, 4, 4, dtype=torch.float64), torch.randn(1, 4, 32, dtype=torch.float64)
    inside, mask = torch.rand(1, 2, 4, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.bool)

    def loss(strength):
        with torch.no_grad():
            bias.strength.copy_(strength)
        return block(x, kv, bias(inside, mask, (4, 4))).square().sum()

    start, step = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([1e-6, 0], dtype=torch.float64)
    loss(start).backward()
    slope = (loss(start + step) - loss(start - step)) / 2e-6
    assert bias.strength.grad[0].item() == pytest.approx(slope.item(), rel=1e-5)


def test_without_boxes_there_is_no_bias_whatever_the_switch_says():
    method = small_method(spatial={"boxes": False, "binding": "bias"})
    assert "binding" not in method.trainable()
    moved = replace(small_batch(["a"]), objects=[replace(TWO, boxes=TWO.boxes[::-1].copy())])
    one, other = (method.restore(batch, NOISE, sampling()) for batch in (small_batch(["a"]), moved))
    assert torch.equal(one, other)


def test_a_tile_sees_the_part_of_a_region_that_lies_in_it():
    """Coverage of a tile's own grid, from its clipped box, is the crop of the whole picture's coverage."""
    boxes = np.array([[0.1, 0.2, 0.7, 0.9], [0.5, 0.5, 0.95, 1.0]], np.float32)
    whole = inside_boxes(torch.from_numpy(np.vstack([[0, 0, 1, 1], boxes]))[None], torch.tensor([True]), 16, 24)
    tile = Tile(4, 8, 8, 12)
    clipped, kept = boxes_in_tile(boxes, tile, 16, 24)
    assert kept.tolist() == [0, 1]
    seen = inside_boxes(torch.from_numpy(np.vstack([[0, 0, 1, 1], clipped]))[None], torch.tensor([True]), 8, 12)
    assert torch.allclose(seen, tile.crop(whole), atol=1e-5)


def test_a_bound_method_restores_in_tiles_and_trains():
    corner = objects_of(("sign", (0.0, 0.0, 0.25, 0.4), 0.8), ("wall", (0.0, 0.0, 1.0, 1.0), 0.7))
    method = small_method(**BIAS)
    batch = replace(small_batch(["a"], 32, 64, training=False), objects=[corner])
    restored = method.restore(batch, NOISE, sampling(tile=16, tile_overlap=4))
    assert restored.shape == (1, 3, 128, 256)
    assert torch.isfinite(restored).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method(small_batch(["a", "b"]), NOISE)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.trainable()["binding"].parameters())


def test_weights_trained_without_a_bias_start_as_what_they_were(tmp_path):
    keys, bound = small_method(redrawn=True), small_method(redrawn=True, **BIAS)
    save_model(tmp_path / "keys", keys, {})
    load_init(tmp_path / "keys", bound)
    assert not any(p.any() for p in bound.trainable()["binding"].parameters())
    batch = small_batch(["a"], training=False)
    assert torch.allclose(bound.restore(batch, NOISE, sampling()), keys.restore(batch, NOISE, sampling()), atol=1e-5)
    torch.nn.init.ones_(bound.trainable()["binding"].control[0].strength)
    save_model(tmp_path / "bias", bound, {})
    load_init(tmp_path / "bias", again := small_method(**BIAS))
    assert torch.equal(again.trainable()["binding"].control[0].strength, torch.ones(2))
    load_init(tmp_path / "bias", small_method())  # the other way round the bias is passed over


def test_a_first_phase_without_the_parts_under_test_is_what_every_variant_starts_as(tmp_path):
    off = {"constraint": {"img": False, "sem": False}, "spatial": {"boxes": False, "binding": "bias"}}
    plain, whole = small_method(redrawn=True, **off), small_method(redrawn=True, **BIAS)
    assert plain.network.heads.img is None and plain.network.fusion is None
    save_model(tmp_path, plain, {})
    drawn = whole.network.heads.sem[0].weight.clone()
    load_init(tmp_path, whole)
    batch = small_batch(["a"], training=False)
    assert torch.allclose(whole.restore(batch, NOISE, sampling()), plain.restore(batch, NOISE, sampling()), atol=1e-5)
    assert torch.equal(
        whole.network.heads.sem[0].weight, drawn
    )  # as drawn: from zeros nothing would reach the residuals
    losses = whole(small_batch(["a", "b"]), NOISE)
    assert {"semdeg_img", "semdeg_sem"} < losses.keys()
    sum(losses.values()).backward()
    assert whole.network.fusion.layers[-1].weight.grad.any() and whole.network.binding[0].strength.grad.any()


def test_what_is_no_addition_must_be_there(tmp_path):
    method = small_method()
    method.network.e_img, e_img = torch.nn.Identity(), method.network.e_img
    save_model(tmp_path, method, {})
    method.network.e_img = e_img
    with pytest.raises(UserError, match="e_img"):
        load_init(tmp_path, method)
    save_model(tmp_path, small_method(train_base=True), {})
    with pytest.raises(UserError, match="trained together with its unet"):
        load_init(tmp_path, method)  # frozen: a random base under parts that were trained with another one
