"""MegaSR's network: exact sizes, the base UNet at the start, what trains, files, and what each guide changes."""

import pytest
import torch

from spasemsr.diffusion.base import build_unet
from spasemsr.diffusion.guided import attentions_of
from spasemsr.methods.megasr.block import attend
from spasemsr.methods.megasr.network import Guides, MegaSRNetwork
from spasemsr.methods.megasr.spec import MegaSRSpec
from tests.worlds.guided import (
    LATENTS,
    TEXT,
    UNET,
    parameters,
    random_latents,
    redraw,
    require_frozen_base,
    require_round_trip,
)

IMAGE, SOFT, CLASSES = 10, 12, 6
SPEC = {"unet": UNET, "hint_channels": (4, 8, 8, 16)}


def _network(seed=0, **changes) -> MegaSRNetwork:
    torch.manual_seed(seed)
    spec = MegaSRSpec.model_validate(SPEC | changes)
    return MegaSRNetwork(build_unet(spec.unet, LATENTS, TEXT), spec, IMAGE, SOFT, CLASSES).eval()


def _inputs(height=16, width=16, seed=5):
    draw = torch.Generator().manual_seed(seed)
    size = (8 * height, 8 * width)
    guides = Guides(
        torch.rand(2, 1, *size, generator=draw),
        torch.rand(2, 1, *size, generator=draw),
        torch.randint(CLASSES, (2, height, width), generator=draw),
        torch.randn(2, 7, IMAGE, generator=draw),
        torch.randn(2, 9, SOFT, generator=draw),
    )
    return torch.rand(2, 3, *size, generator=draw), torch.randn(2, 6, TEXT, generator=draw), guides


def _loss_input(network, height=16, width=16):
    return network.predict(*random_latents(height, width), network.encode(*_inputs(height, width)))


@torch.no_grad()
def _predict(network, inputs=None):
    inputs = inputs or _inputs()
    return network.predict(*random_latents(*inputs[2].classes_Bhw.shape[1:]), network.encode(*inputs))


def test_paper_scale_sizes():
    spec = MegaSRSpec()
    with torch.device("meta"):
        network = MegaSRNetwork(build_unet(spec.unet, 4, 1024), spec, 1280, 512, 150)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in network.trainable().items()}
    assert sizes.pop("fusion") > 0
    assert sizes == {
        "controlnet": 364_228_240,
        "cism2": 33_390_784,
        "rca": 260_849_600,
        "control_rca": 124_803_200,
        "guidance": 7_633_664,
        "control_guidance": 3_494_528,
    }
    assert len(network.unet.state_dict()) == 686  # SD's own tensors under SD's own names


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (9, 8)])
def test_the_start_is_the_base_unet_bit_for_bit(size):
    network, inputs = _network(), _inputs(*size)
    latents, timesteps = random_latents(*size)
    with torch.no_grad():
        base = network.unet(latents, timesteps, inputs[1]).sample
    assert torch.equal(_predict(network, inputs), base)


def test_the_spelled_out_block_is_diffusers_own_bit_for_bit():
    torch.manual_seed(1)
    unet = build_unet(MegaSRSpec.model_validate(SPEC).unet, LATENTS, TEXT).eval()
    for attention in attentions_of(unet):
        hidden, text = torch.randn(2, attention.config.in_channels, 6, 5), torch.randn(2, 4, TEXT)
        with torch.no_grad():
            ours, theirs = attend(attention, hidden, text, text, None), attention(hidden, text, return_dict=False)[0]
        assert torch.equal(ours, theirs)


def test_cism2_asks_the_frozen_attention_a_second_question():
    """With LinOut the identity and Lin_l giving the text itself, the answer is heard twice."""
    torch.manual_seed(1)
    unet = build_unet(MegaSRSpec.model_validate(SPEC).unet, LATENTS, TEXT).eval()
    (attention, *_), text = attentions_of(unet), torch.randn(2, 4, TEXT)
    cism2 = _network().cism2[0]
    cism2.translate, hidden = torch.nn.Identity(), torch.randn(2, attention.config.in_channels, 6, 5)
    with torch.no_grad():
        cism2.out.weight.copy_(torch.eye(len(cism2.out.weight)))
        doubled = attend(attention, hidden, text, text, cism2)
        attention.transformer_blocks[0].attn2.to_out[0].weight.mul_(2)
        attention.transformer_blocks[0].attn2.to_out[0].bias.mul_(2)
        expected = attention(hidden, text, return_dict=False)[0]
    assert (doubled - expected).abs().max() < 1e-5


def test_gradients_reach_every_trained_tensor_once_nothing_is_zero():
    network = redraw(_network())
    _loss_input(network).square().mean().backward()
    silent = [name for name, p in parameters(network).items() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_base_stays_frozen():
    network = _network()
    require_frozen_base(network, lambda: _loss_input(network), steps=4)


def test_one_file_and_a_plain_unet_rebuild_the_network(tmp_path):
    require_round_trip(redraw(_network()), _network(seed=7), _predict, tmp_path)


@pytest.mark.parametrize("guide", ["edges_B1HW", "depth_B1HW", "classes_Bhw", "image_BPE", "soft_BRK"])
def test_every_guide_changes_the_prediction(guide):
    network, (lr_up, text, guides) = redraw(_network(), 0.2), _inputs()
    other = _inputs(seed=6)[2]
    changed = Guides(**(vars(guides) | {guide: getattr(other, guide)}))
    assert (_predict(network, (lr_up, text, changed)) - _predict(network)).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"cism2": False}, {"cism2"}),
        ({"rca": False}, {"rca", "control_rca"}),
        ({"regions": False}, {"fusion"}),
        ({"edges": False, "regions": False}, {"fusion", "guidance", "control_guidance"}),
    ],
)
def test_a_variant_lacks_its_part_and_still_runs(changes, absent):
    network = redraw(_network(**changes))
    assert set(_network().trainable()) - set(network.trainable()) == absent
    assert _predict(network).isfinite().all()


def test_a_label_beyond_the_classes_is_refused():
    lr_up, text, guides = _inputs()
    guides.classes_Bhw[0, 0, 0] = CLASSES
    with pytest.raises(IndexError):
        _network().encode(lr_up, text, guides)
