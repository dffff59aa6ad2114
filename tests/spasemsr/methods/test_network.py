"""The network's identities and symmetries: the base UNet at the start, object order, masks, batch, conditions."""

from dataclasses import replace

import pytest
import torch

from spasemsr.diffusion.base import build_unet
from spasemsr.methods.spasemsr.conditioning import Conditioning
from spasemsr.methods.spasemsr.network import Encoded, SpaSemNetwork
from spasemsr.methods.spasemsr.spec import ModelSpec
from tests.worlds.small_networks import FEATURES, TEXT, pico_network, random_condition, random_inputs, redraw_zeros


@pytest.fixture(scope="module")
def fresh() -> SpaSemNetwork:
    """A network at its true start."""
    return pico_network().eval()


@pytest.fixture(scope="module")
def moved() -> SpaSemNetwork:
    """A network without any identity left."""
    return redraw_zeros(pico_network(), scale=0.1).eval()


def _predict(network, condition, inputs, scale=1.0):
    with torch.no_grad():
        encoded = network.encode(inputs["lr_up"], condition)
        return network.predict(inputs["latents"], inputs["timesteps"], encoded, scale)


@pytest.mark.parametrize("attention", ["default", "light"])
@pytest.mark.parametrize("size", [(16, 16), (12, 20), (9, 8)])
def test_the_start_is_the_base_unet_bit_for_bit(size, attention, fresh):
    light = {"deg": "cross", "spasem": "cross", "semimg": "cross"}
    network = fresh if attention == "default" else pico_network(attention=light).eval()
    condition, inputs = random_condition(), random_inputs(2, *size)
    with torch.no_grad():
        base = network.unet(inputs["latents"], inputs["timesteps"], condition.base_BLD).sample
        single = network.unet(inputs["latents"], 500, condition.base_BLD).sample
    prediction = _predict(network, condition, inputs)
    assert torch.equal(prediction.sample, base)
    assert not any(residual.any() for residual in prediction.residuals)
    inputs["timesteps"] = torch.tensor(500)
    assert torch.equal(_predict(network, condition, inputs).sample, single)


def test_the_start_is_the_base_unet_in_bf16_too(fresh):
    condition, inputs = random_condition(), random_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        base = fresh.unet(inputs["latents"], inputs["timesteps"], condition.base_BLD).sample
        sample = _predict(fresh, condition, inputs).sample
    assert sample.dtype == base.dtype
    assert torch.equal(sample, base)


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_control_states_start_as_the_encoder_states_under_spatial_text(size, fresh):
    condition, inputs = random_condition(), random_inputs(2, *size)
    unet = fresh.unet
    with torch.no_grad():
        encoded = fresh.encode(inputs["lr_up"], condition)
        states = fresh.control(
            inputs["latents"],
            inputs["timesteps"],
            encoded.features_BChw,
            encoded.spatial_BMD,
            encoded.spatial_mask_BM,
            encoded.caption_BLD,
        )
        temb = unet.time_embedding(unet.time_proj(inputs["timesteps"]))
        text = {
            "encoder_hidden_states": encoded.spatial_BMD,
            "encoder_attention_mask": (1 - encoded.spatial_mask_BM.float()).unsqueeze(1) * -10000.0,
        }
        hidden = unet.conv_in(inputs["latents"])
        expected = [hidden]
        for block in unet.down_blocks:
            hidden, outputs = block(hidden, temb, **(text if hasattr(block, "attentions") else {}))
            expected += outputs
        expected.append(unet.mid_block(hidden, temb, **text))
    assert len(states) == len(expected) == 13
    # Up to rounding: SpaSemAtten's result lies otherwise in memory, for which some CPUs choose another kernel.
    differences = [(state - other).abs().max().item() for state, other in zip(states, expected, strict=True)]
    assert max(differences) < 2e-6 and differences[:7] == [0.0] * 7


def test_residual_shapes_are_those_of_the_table(moved):
    residuals = _predict(moved, random_condition(), random_inputs()).residuals
    channels = (16, 16, 16, 16, 24, 24, 24, 32, 32, 32, 32, 32, 32)
    strides = (1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8)
    assert [r.shape[1:] for r in residuals] == [(c, 16 // s, 16 // s) for c, s in zip(channels, strides, strict=True)]


def test_object_order_does_not_matter(moved):
    condition, inputs = random_condition(), random_inputs()
    index = torch.tensor([0, 4, 2, 5, 1, 3])
    permuted = replace(
        condition,
        tokens_BNGD=condition.tokens_BNGD[:, index],
        token_mask_BNG=condition.token_mask_BNG[:, index],
        pooled_BND=condition.pooled_BND[:, index],
        boxes_BN4=condition.boxes_BN4[:, index],
    )
    difference = _predict(moved, condition, inputs).sample - _predict(moved, permuted, inputs).sample
    assert difference.abs().max() < 1e-5
    swapped = replace(condition, boxes_BN4=condition.boxes_BN4[:, index])  # boxes alone: another scene
    assert (_predict(moved, condition, inputs).sample - _predict(moved, swapped, inputs).sample).abs().max() > 1e-4


def test_masked_objects_do_not_matter(moved):
    condition, inputs = random_condition(), random_inputs()
    masked = ~condition.token_mask_BNG
    absent = ~condition.token_mask_BNG.any(dim=2)
    assert absent.any()
    other = replace(
        condition,
        tokens_BNGD=torch.where(masked.unsqueeze(-1), torch.full((), 37.0), condition.tokens_BNGD),
        pooled_BND=torch.where(absent.unsqueeze(-1), torch.full((), -5.0), condition.pooled_BND),
        boxes_BN4=torch.where(absent.unsqueeze(-1), torch.full((), 0.9), condition.boxes_BN4),
    )
    assert torch.equal(_predict(moved, condition, inputs).sample, _predict(moved, other, inputs).sample)


def test_no_object_is_the_null_object_alone(moved):
    condition, inputs = random_condition(), random_inputs()
    mask = condition.token_mask_BNG.clone()
    mask[:, 1:] = False
    empty = _predict(moved, replace(condition, token_mask_BNG=mask), inputs).sample
    alone = replace(
        condition,
        tokens_BNGD=condition.tokens_BNGD[:, :1],
        token_mask_BNG=condition.token_mask_BNG[:, :1],
        pooled_BND=condition.pooled_BND[:, :1],
        boxes_BN4=condition.boxes_BN4[:, :1],
    )
    assert empty.isfinite().all()
    assert (empty - _predict(moved, alone, inputs).sample).abs().max() < 1e-5


def test_moving_a_box_matters_only_once_the_fusion_has_moved(fresh, moved):
    condition, inputs = random_condition(), random_inputs()
    boxes = condition.boxes_BN4.clone()
    boxes[:, 1] = torch.tensor([0.1, 0.2, 0.3, 0.9])
    elsewhere = replace(condition, boxes_BN4=boxes)
    assert torch.equal(_predict(fresh, condition, inputs).sample, _predict(fresh, elsewhere, inputs).sample)
    change = (_predict(moved, condition, inputs).sample - _predict(moved, elsewhere, inputs).sample).abs()
    assert change.amax((1, 2, 3)).min() > 1e-5


@pytest.mark.parametrize("name", ["base_BLD", "caption_BLD", "tokens_BNGD", "pooled_BND"])
def test_every_text_reaches_the_prediction(name, moved):
    condition, inputs = random_condition(), random_inputs()
    other = replace(condition, **{name: getattr(condition, name).flip(-1)})
    change = (_predict(moved, condition, inputs).sample - _predict(moved, other, inputs).sample).abs()
    assert change.amax((1, 2, 3)).min() > 1e-5


def test_a_batch_is_its_samples(moved):
    condition, inputs = random_condition(), random_inputs()
    together = _predict(moved, condition, inputs).sample
    for row in range(2):
        rows = slice(row, row + 1)
        own = Conditioning(**{name: tensor[rows] for name, tensor in vars(condition).items()})
        one = _predict(moved, own, {name: tensor[rows] for name, tensor in inputs.items()}).sample
        assert (one - together[rows]).abs().max() < 1e-5


def test_conditioning_scale(moved):
    """0 switches off all that the LR says through the ControlNet; in between is neither end."""
    condition, inputs = random_condition(), random_inputs()
    other = inputs | {"lr_up": 1 - inputs["lr_up"]}
    assert torch.equal(_predict(moved, condition, inputs, 0.0).sample, _predict(moved, condition, other, 0.0).sample)
    full, none, half = (_predict(moved, condition, inputs, scale) for scale in (1.0, 0.0, 0.5))
    assert not torch.equal(full.sample, _predict(moved, condition, other).sample)
    assert not torch.equal(half.sample, full.sample)
    assert not torch.equal(half.sample, none.sample)
    assert all(torch.equal(a, b) for a, b in zip(full.residuals, half.residuals, strict=True))  # r_i unscaled


def test_lr_of_a_wrong_size_is_refused(fresh):
    with pytest.raises(ValueError, match=r"lr_up is \(130, 128\) pixels"):
        fresh.encode(torch.rand(2, 3, 130, 128), random_condition())


def test_a_unet_of_another_family_is_refused():
    from diffusers import UNet2DConditionModel

    tiny = {"block_out_channels": (16, 32, 32, 32), "norm_num_groups": 8, "cross_attention_dim": TEXT}
    with pytest.raises(ValueError, match="use_linear_projection is False"):
        SpaSemNetwork(UNet2DConditionModel(attention_head_dim=8, **tiny), ModelSpec(), FEATURES)
    with pytest.raises(ValueError, match="attention_head_dim must list"):
        SpaSemNetwork(
            UNet2DConditionModel(attention_head_dim=8, use_linear_projection=True, **tiny), ModelSpec(), FEATURES
        )


@pytest.mark.slow
def test_the_network_of_the_paper_starts_as_its_base():
    """966,993,428 trained parameters around SD 2.1-base's UNet in fp32: one step, some 9 GB, minutes on a CPU."""
    spec = ModelSpec()
    torch.manual_seed(0)
    network = SpaSemNetwork(build_unet(spec.unet, 4, 1024), spec, 256).eval()
    assert sum(p.numel() for part in network.trainable().values() for p in part.parameters()) == 966_993_428
    draw = torch.Generator().manual_seed(1)
    text, spatial = torch.randn(1, 77, 1024, generator=draw), torch.randn(1, 168, 1024, generator=draw)
    lr_up = torch.rand(1, 3, 512, 512, generator=draw)
    noisy, timesteps = torch.randn(1, 4, 64, 64, generator=draw), torch.tensor([601])
    with torch.no_grad():
        features = torch.cat([network.e_img(lr_up), network.e_sem(lr_up)], dim=1)
        encoded = Encoded(features, text, text.flip(1), spatial, torch.ones(1, 168, dtype=torch.bool))
        guided = network.predict(noisy, timesteps, encoded).sample
        assert torch.equal(guided, network.unet(noisy, timesteps, text).sample)
