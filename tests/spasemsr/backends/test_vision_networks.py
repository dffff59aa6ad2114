"""RAM, CLIP's image encoder, SegFormer and Depth Anything from tiny checkpoints in their published layouts."""

import numpy as np
import pytest
import torch

from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors.clip_vision import square
from spasemsr.backends.extractors.ram_rows import DEVIATION, MEAN
from spasemsr.backends.extractors.spec import (
    ClipVisionSpec,
    DepthSpec,
    RamRowsSpec,
    SegformerFeaturesSpec,
    SegformerLabelsSpec,
)
from spasemsr.backends.networks.ram import Ram, load_ram
from spasemsr.backends.networks.spec import RamSizeSpec
from spasemsr.errors import UserError
from tests.worlds.photographs import photograph
from tests.worlds.tiny_vision import RAM, write_clip_vision, write_depth_anything, write_ram, write_segformer

IMAGES = [photograph("astronaut", 96), photograph("coffee", 64)]


def _spec(cls, kind, source, **values):
    return cls(kind=kind, source=str(source), precision="fp32", **values)


def _edited(path, change):
    state = torch.load(path, weights_only=True)
    change(state["model"])
    torch.save(state, path)


def test_ram_at_its_published_size_is_what_the_file_holds():
    with torch.device("meta"):
        network = Ram(RamSizeSpec())
    assert network.image_proj.weight.shape == (512, 1536)
    assert network.label_embed.shape == (4585, 512)
    assert RamSizeSpec().rows == 145
    swin = sum(p.numel() for p in network.visual_encoder.parameters())
    assert swin == 195_198_516  # Swin-L at 384 px with windows of 12, without a classifier


def test_ram_loads_by_name_and_represents_an_image(tmp_path):
    written = write_ram(tmp_path / "ram.pth")
    spec = _spec(RamRowsSpec, "ram", tmp_path / "ram.pth", architecture=RAM)
    found = build_extractor(spec, "cpu").extract(IMAGES)
    with torch.no_grad():
        expected = written.represent(square(IMAGES, 64, MEAN, DEVIATION))
    assert found[0].shape == spec.shape(96) == (5, 12)
    assert np.allclose(np.stack(found), expected.numpy(), atol=2e-3)
    whole, cells = expected[:, 0], expected[:, 1:]
    assert torch.allclose(whole, cells.mean(1), atol=1e-5)


def test_rams_tagging_head_is_berts_cross_attention(tmp_path):
    """Against transformers' own BERT layer with the same numbers, its self-attention bypassed."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertIntermediate, BertOutput, BertSelfOutput

    network = write_ram(tmp_path / "ram.pth")
    layer, config = network.tagging_head["encoder"]["layer"][0], BertConfig(
        hidden_size=16, intermediate_size=64, num_attention_heads=4
    )  # fmt: skip
    parts = BertSelfOutput(config), BertIntermediate(config), BertOutput(config)
    for part, ours in zip(parts, (layer.crossattention.output, layer.intermediate, layer.output), strict=True):
        part.load_state_dict(ours.state_dict())
        part.eval()
    tags, rows, cross = torch.randn(2, 7, 16), torch.randn(2, 5, 12), layer.crossattention.self
    query, key, value = cross["query"](tags), cross["key"](rows), cross["value"](rows)
    heads = [
        torch.softmax(query[..., i : i + 4] @ key[..., i : i + 4].mT / 2, -1) @ value[..., i : i + 4]
        for i in range(0, 16, 4)
    ]
    attended = parts[0](torch.cat(heads, -1), tags)
    assert torch.allclose(layer(tags, rows), parts[2](parts[1](attended), attended), atol=1e-5)
    assert network.logits(rows).shape == (2, 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("image_proj.bias"), "image_proj.bias"),
        (lambda state: state.update({"image_proj.extra": torch.zeros(1)}), "image_proj.extra"),
        (lambda state: state.update(label_embed=torch.zeros(9, 12)), "label_embed"),  # another list of tags
    ],
)
def test_ram_refuses_what_does_not_fit(tmp_path, change, said):
    write_ram(tmp_path / "ram.pth")
    _edited(tmp_path / "ram.pth", change)
    with pytest.raises(UserError, match=said):
        load_ram(tmp_path / "ram.pth", RAM)


def test_clips_last_states(tmp_path):
    write_clip_vision(tmp_path)
    spec = _spec(ClipVisionSpec, "clip_vision", tmp_path, hidden=16, rows=5)
    found = build_extractor(spec, "cpu").extract(IMAGES)
    assert [rows.shape for rows in found] == [spec.shape(96)] * 2
    assert found[0].dtype == np.float16 and np.isfinite(found[0]).all()
    with pytest.raises(UserError, match="1280 numbers in 257 rows"):
        build_extractor(_spec(ClipVisionSpec, "clip_vision", tmp_path), "cpu").extract(IMAGES)


def test_segformers_labels_and_features(tmp_path):
    write_segformer(tmp_path)
    labels = _spec(SegformerLabelsSpec, "segformer", tmp_path, classes=5)
    features = _spec(SegformerFeaturesSpec, "segformer_features", tmp_path, channels=12)
    found, fused = build_extractor(labels, "cpu").extract(IMAGES), build_extractor(features, "cpu").extract(IMAGES)
    assert found[0].shape == labels.shape(96) == (1, 12, 12)
    assert found[0].dtype == np.uint8 and found[0].max() < 5
    assert fused[0].shape == features.shape(96) == (12, 12, 12)
    with pytest.raises(UserError, match="150 classes"):
        build_extractor(_spec(SegformerLabelsSpec, "segformer", tmp_path), "cpu").extract(IMAGES)
    with pytest.raises(UserError, match="768 channels"):
        build_extractor(_spec(SegformerFeaturesSpec, "segformer_features", tmp_path), "cpu").extract(IMAGES)


def test_depth_is_relative_and_of_the_pictures_shape(tmp_path):
    write_depth_anything(tmp_path)
    spec = _spec(DepthSpec, "depth_anything", tmp_path)
    wide = np.ascontiguousarray(photograph("coffee", 96)[:64])
    square_, other = build_extractor(spec, "cpu").extract([IMAGES[0], wide])
    assert square_.shape == spec.shape(96) and other.shape == (1, 8, 12)
    assert (square_.min(), square_.max()) == (0.0, 1.0)
