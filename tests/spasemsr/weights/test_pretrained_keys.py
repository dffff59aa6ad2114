"""An unmodified SD 2.1-shaped checkpoint loads without key surgery, and the trained parts are copies where they say."""

import pytest
import torch

from spasemsr.diffusion.base import build_unet
from spasemsr.diffusion.guided import attentions_of
from spasemsr.diffusion.spec import UNetSpec
from spasemsr.methods.spasemsr.network import SpaSemNetwork
from spasemsr.methods.spasemsr.spec import ModelSpec
from tests.worlds.small_networks import LATENTS, PICO, TEXT, pico_network

GROUPS = {
    "conv_in": 2, "time_embedding": 4, "down_blocks": 246, "mid_block": 46, "up_blocks": 384, "conv_norm_out": 2,
    "conv_out": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> SpaSemNetwork:
    """A network around a tiny UNet that went through diffusers' own files."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(11)
    spec = ModelSpec.model_validate(PICO)
    written = build_unet(spec.unet, LATENTS, TEXT)
    written.save_pretrained(folder)
    unet, info = UNet2DConditionModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    loaded = unet.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in written.state_dict().items())
    return SpaSemNetwork(unet, spec, 8)


def _same(module, other) -> set[str]:
    """Names of the tensors that are equal in both."""
    ours, theirs = module.state_dict(), other.state_dict()
    return {name for name in ours if name in theirs and torch.equal(ours[name], theirs[name])}


def test_unet_config_and_keys_at_full_size():
    with torch.device("meta"):
        unet = build_unet(UNetSpec(), 4, 1024)
    state = unet.state_dict()
    assert {group: sum(name.split(".")[0] == group for name in state) for group in GROUPS} == GROUPS
    assert len(state) == sum(GROUPS.values()) == 686
    shapes = {
        "conv_in.weight": (320, 4, 3, 3),
        "time_embedding.linear_1.weight": (1280, 320),
        "down_blocks.0.attentions.0.proj_in.weight": (320, 320),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
        "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.weight": (2560, 320),
        "mid_block.attentions.0.proj_out.weight": (1280, 1280),
        "up_blocks.0.resnets.2.conv_shortcut.weight": (1280, 2560, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    expected = {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "upcast_attention": False,
        "norm_num_groups": 32,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    }
    assert {name: unet.config[name] for name in expected} == expected
    assert {block.attentions[0].attention_head_dim for block in unet.down_blocks[:3]} == {64}


def test_controlnet_copies_298_of_its_324_tensors(network):
    backbone = network.control.backbone
    copied = _same(backbone, network.unet)
    assert len(copied) == 298
    assert {name.split(".")[0] for name in copied} == {"conv_in", "time_embedding", "down_blocks", "mid_block"}
    rest = set(backbone.state_dict()) - copied
    assert len(rest) == 26
    assert not any(backbone.state_dict()[name].any() for name in rest)


def test_degradation_attention_copies_all_26(network):
    for deg, source in zip(network.control.deg, attentions_of(network.control.backbone), strict=True):
        assert len(_same(deg, source)) == 26


def test_spasem_attention_copies_all_but_keys_and_values_and_starts_at_zero(network):
    """The third level has as many channels as the text is wide, so its shapes agree by accident."""
    widths = []
    for spasem, source in zip(network.control.spasem, attentions_of(network.control.backbone), strict=True):
        differing = set(spasem.state_dict()) - _same(spasem, source)
        fresh = {f"transformer_blocks.0.attn2.to_{name}.weight" for name in "kv"}
        assert fresh <= differing <= fresh | {"proj_out.weight", "proj_out.bias"}
        assert not spasem.proj_out.weight.any()
        assert not spasem.proj_out.bias.any()
        widths.append(source.config.in_channels)
    assert TEXT in widths


def test_spatext_attention_copies_norm_projection_and_text_attention(network):
    for block, source in zip(network.spatext, attentions_of(network.unet), strict=True):
        inner = source.transformer_blocks[0]
        pairs = [(block.norm, source.norm), (block.proj_in, source.proj_in), (block.norm2, inner.norm2)]
        assert all(len(_same(ours, theirs)) == 2 for ours, theirs in pairs)
        assert len(_same(block.attn2, inner.attn2)) == 5
        assert not block.proj_out.weight.any()
        assert not block.proj_out.bias.any()


def test_a_network_is_a_function_of_seed_and_base():
    one, two, other = pico_network(0).state_dict(), pico_network(0).state_dict(), pico_network(1).state_dict()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert not torch.equal(one["semimg.0.attention.proj_in.weight"], other["semimg.0.attention.proj_in.weight"])
