"""Exact sizes on the meta device, where nothing is allocated: SD 2.1-base scale, and the nano network."""

import pytest
import torch
from torch import nn

from spasemsr.diffusion.attention import build_attention
from spasemsr.diffusion.base import build_unet
from spasemsr.diffusion.guided import attentions_of
from spasemsr.methods.spasemsr.network import SpaSemNetwork
from spasemsr.methods.spasemsr.spatial_text import BoxFusion
from spasemsr.methods.spasemsr.spec import ModelSpec

LIGHT = {"deg": "cross", "spasem": "cross", "semimg": "cross"}
NANO = {
    "unet": {
        "block_out_channels": (32, 64, 96, 96),
        "attention_heads": (2, 4, 6, 6),
        "norm_num_groups": 16,
        "sample_size": 16,
    },
    "encoders": {"hint_channels": (8, 16, 16, 32)},
    "objects": {"max": 5, "tokens": 4},
    "fusion_width": 64,
}


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _sizes(network: SpaSemNetwork) -> dict[str, tuple[int, int]]:
    return {name: (_size(part), len(list(part.parameters()))) for name, part in network.trainable().items()}


def _total(network: SpaSemNetwork) -> tuple[int, int]:
    sizes = _sizes(network).values()
    return sum(size for size, _ in sizes), sum(count for _, count in sizes)


def _build(width: int = 1024, features: int = 256, **changes) -> SpaSemNetwork:
    spec = ModelSpec.model_validate(changes)
    with torch.device("meta"):
        return SpaSemNetwork(build_unet(spec.unet, 4, width), spec, features)


@pytest.fixture(scope="module")
def paper() -> SpaSemNetwork:
    """The default spec: SD 2.1-base with 4 latent channels, text width 1024, SAM's 256 channels."""
    return _build()


def test_base_unet(paper):
    assert _size(paper.unet) == 865_910_724
    assert len(paper.unet.state_dict()) == 686
    assert len(attentions_of(paper.unet)) == 16
    assert sum(map(_size, attentions_of(paper.unet))) == 273_629_120


def test_controlnet_backbone(paper):
    from diffusers import ControlNetModel

    with torch.device("meta"):
        whole = ControlNetModel.from_unet(paper.unet)
    backbone = paper.control.backbone
    zero_convs = [*backbone.controlnet_down_blocks, backbone.controlnet_mid_block]
    assert (_size(whole), len(whole.state_dict())) == (364_228_240, 340)
    assert _size(whole.controlnet_cond_embedding) == 1_086_480
    assert (_size(backbone), len(backbone.state_dict())) == (363_141_760, 324)
    assert (len(zero_convs), sum(map(_size, zero_convs))) == (13, 11_479_680)
    assert _size(backbone) - sum(map(_size, zero_convs)) == 351_662_080
    assert len(attentions_of(backbone)) == 7
    assert sum(map(_size, attentions_of(backbone))) == 130_701_440


@pytest.mark.parametrize(
    ("kind", "channels", "kv_width", "size"),
    [
        ("full", 320, 1024, 2_710_080),
        ("full", 640, 1024, 9_516_160),
        ("full", 1280, 1024, 35_416_320),
        ("full", 320, 320, 2_259_520),
        ("full", 640, 640, 9_024_640),
        ("full", 1280, 1280, 36_071_680),
        ("full", 320, 512, 2_382_400),
        ("full", 640, 512, 8_860_800),
        ("full", 1280, 512, 34_105_600),
        ("cross", 320, 1024, 1_067_200),
        ("cross", 640, 1024, 2_953_600),
        ("cross", 1280, 1024, 9_184_000),
    ],
)
def test_attention_blocks(kind, channels, kv_width, size):
    with torch.device("meta"):
        block = build_attention(kind, channels, kv_width, heads=channels // 64, groups=32)
    assert (_size(block), len(list(block.parameters()))) == (size, {"full": 26, "cross": 13}[kind])


def test_box_fusion():
    with torch.device("meta"):
        assert _size(BoxFusion(1024, 512)) == 1_347_584


def test_trained_parts(paper):
    assert _sizes(paper) == {
        "controlnet": (363_141_760, 324),
        "deg": (130_701_440, 182),
        "spasem": (130_783_360, 182),
        "inject": (1_232_640, 10),
        "e_img": (717_680, 16),
        "e_sem": (2_874_224, 52),
        "heads": (195_892 + 12_537_088, 52),
        "fusion": (1_347_584, 8),
        "spatext": (75_208_000, 208),
        "semimg": (248_253_760, 336),
    }
    assert (_size(paper.heads.img), _size(paper.heads.sem)) == (195_892, 12_537_088)
    assert _total(paper) == (966_993_428, 1370)
    assert _total(paper)[0] + _size(paper.unet) == 1_832_904_152


def test_light_preset():
    light = _build(attention=LIGHT)
    sizes = _sizes(light)
    assert sizes["deg"] == (35_593_600, 91)
    assert sizes["spasem"] == (35_675_520, 91)
    assert sizes["semimg"] == (66_224_320, 156)
    assert _total(light)[0] == 594_748_308


def test_full_spatext():
    assert _sizes(_build(attention={"spatext": "full"}))["spatext"] == (273_629_120, 416)


def test_semimg_without_its_key_norm(paper):
    assert sum(_size(block.attention) for block in paper.semimg) == 248_234_560


def test_nano():
    nano = _build(width=64, features=16, **NANO)
    assert (_size(nano.unet), len(nano.unet.state_dict())) == (5_523_876, 686)
    sizes = {name: size for name, (size, _) in _sizes(nano).items()}
    assert sizes == {
        "controlnet": 2_298_464,
        "deg": 829_280,
        "spasem": 843_616,
        "inject": 10_560,
        "e_img": 18_200,
        "e_sem": 58_392,
        "heads": 16_180 + 64_720,
        "fusion": 16_704,
        "spatext": 466_144,
        "semimg": 1_563_936,
    }
    assert (_size(nano.heads.img), _size(nano.heads.sem)) == (16_180, 64_720)
    assert _total(nano) == (6_186_196, 1370)
    assert _total(nano)[0] + _size(nano.unet) == 11_710_072
