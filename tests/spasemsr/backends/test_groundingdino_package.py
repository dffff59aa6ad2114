"""The authors' GroundingDINO as a backend, and as the reference of transformers': one set of weights in both."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, GroundingDinoProcessor

from spasemsr.backends.grounding import build_detector, groundingdino_package
from spasemsr.backends.grounding.groundingdino_package import Adapted, Sizes, build
from spasemsr.backends.grounding.spec import (
    ComponentSegmenterSpec,
    GroundingDinoSpec,
    GroundSpec,
    PackagedGroundingDinoSpec,
    PaletteTaggerSpec,
    identity_of,
)
from spasemsr.backends.protocols import Tag
from spasemsr.errors import UserError
from spasemsr.weights.pretrained import load_pretrained
from tests.worlds.photographs import photograph
from tests.worlds.tiny_checkpoints import write_grounding_dino

TINY = Sizes(
    "GroundingDINO_SwinT_OGC",
    {
        "hidden_dim": 256, "nheads": 2, "enc_layers": 1, "dec_layers": 2, "dim_feedforward": 64, "num_queries": 20,
        "enc_n_points": 2, "dec_n_points": 2,
    },
    {
        "vocab_size": 1057, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 512,
    },
    {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4},
)  # fmt: skip
SWIN = "model.backbone.conv_encoder.model"
RENAMED = [  # the package's names -> transformers'
    (r"^backbone\.0\.patch_embed\.proj", f"{SWIN}.embeddings.patch_embeddings.projection"),
    (r"^backbone\.0\.patch_embed\.norm", f"{SWIN}.embeddings.norm"),
    (r"^backbone\.0\.norm(\d)", lambda found: f"{SWIN}.hidden_states_norms.stage{int(found[1]) + 1}"),
    (r"^backbone\.0\.layers", f"{SWIN}.encoder.layers"),
    (r"(blocks\.\d+)\.norm1", r"\1.layernorm_before"),
    (r"(blocks\.\d+)\.norm2", r"\1.layernorm_after"),
    (r"\.attn\.proj", ".attention.output.dense"),
    (r"(blocks\.\d+)\.attn\.", r"\1.attention.self."),
    (r"\.mlp\.fc1", ".intermediate.dense"),
    (r"\.mlp\.fc2", ".output.dense"),
    (r"^bert", "model.text_backbone"),
    (r"^feat_map", "model.text_projection"),
    (r"^input_proj", "model.input_proj_vision"),
    (r"^transformer\.tgt_embed", "model.query_position_embeddings"),
    (r"^transformer\.enc_out_bbox_embed", "model.encoder_output_bbox_embed"),
    (r"^transformer\.decoder\.norm", "model.decoder.layer_norm"),
    (r"ref_point_head", "reference_points_head"),
    (r"^transformer\.encoder\.layers\.(\d+)", r"model.encoder.layers.\1.deformable_layer"),
    (r"^transformer\.encoder\.text_layers\.(\d+)", r"model.encoder.layers.\1.text_enhancer_layer"),
    (r"^transformer\.encoder\.fusion_layers\.(\d+)", r"model.encoder.layers.\1.fusion_layer"),
    (r"(deformable_layer)\.norm1", r"\1.self_attn_layer_norm"),
    (r"(deformable_layer)\.norm2", r"\1.final_layer_norm"),
    (r"(text_enhancer_layer)\.norm1", r"\1.layer_norm_before"),
    (r"(text_enhancer_layer)\.norm2", r"\1.layer_norm_after"),
    (r"\.(values_|out_)?l_proj", lambda found: f".{found[1] or ''}text_proj"),
    (r"\.(values_|out_)?v_proj", lambda found: f".{found[1] or ''}vision_proj"),
    (r"gamma_l", "text_param"),
    (r"gamma_v", "vision_param"),
    (r"layer_norm_l\b", "layer_norm_text"),
    (r"layer_norm_v\b", "layer_norm_vision"),
    (r"(decoder\.layers\.\d+)\.norm1", r"\1.encoder_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norm2", r"\1.self_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norm3", r"\1.final_layer_norm"),
    (r"\.catext_norm", ".encoder_attn_text_layer_norm"),
    (r"\.ca_text", ".encoder_attn_text"),
    (r"\.cross_attn", ".encoder_attn"),
    (r"\.linear([12])", r".fc\1"),
    (r"^transformer\.", "model."),
]


def as_transformers(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's tensors under transformers' names, queries, keys and values apart."""
    apart = {}
    for name, tensor in state.items():
        joined = re.match(r"(.*)\.(?:qkv\.|in_proj_)(weight|bias)$", name)
        parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True) if joined else ()
        apart |= {f"{joined[1]}.{part}.{joined[2]}": values for part, values in parts} if joined else {name: tensor}
    found = {}
    for name, tensor in apart.items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    unused = {name: tensor for name, tensor in expected.items() if ".swin.layernorm." in name}  # of no stage's output
    return {name: tensor for name, tensor in found.items() if name in expected} | unused  # heads are there thrice


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    network = build(TINY)
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


@pytest.fixture
def files(network, tmp_path, monkeypatch) -> Path:
    """The authors' layout, with what it holds beside the network, and a transformers folder for the texts."""
    monkeypatch.setenv("SPASEMSR_DEVICE", "cpu")
    monkeypatch.setenv("SPASEMSR_MODELS", str(tmp_path / "models"))
    monkeypatch.setitem(groundingdino_package.PUBLISHED, "swin_t", TINY)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    state["module.label_enc.weight"] = torch.zeros(3, 2)
    state["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save({"model": state}, tmp_path / "dino.pth")
    write_grounding_dino(tmp_path / "texts")
    config = GroundingDinoConfig.from_pretrained(tmp_path / "texts")
    config.d_model = 256  # the width that the package has fixed
    GroundingDinoForObjectDetection(config).save_pretrained(tmp_path / "texts")
    return tmp_path


def test_transformers_computes_what_the_authors_code_does(network, files, monkeypatch):
    from groundingdino.models.GroundingDINO import groundingdino, transformer, utils

    path = files / "texts/model.safetensors"
    published = as_transformers(network.state_dict(), load_file(path))
    save_file({name: tensor.contiguous() for name, tensor in published.items()}, path, metadata={"format": "pt"})
    reference = load_pretrained(GroundingDinoForObjectDetection, files / "texts")  # refuses what is missing or unknown
    processor = GroundingDinoProcessor.from_pretrained(files / "texts")
    images = processor.image_processor(images=[photograph("astronaut", 128)], return_tensors="pt")
    text = processor.tokenizer("cat. red car.", padding="max_length", max_length=256, return_tensors="pt",
                               return_token_type_ids=True)  # fmt: skip
    for module in (groundingdino, transformer, utils):  # the one constant that differs: transformers clamps at 1e-5
        if hasattr(module, "inverse_sigmoid"):
            monkeypatch.setattr(module, "inverse_sigmoid", partial(module.inverse_sigmoid, eps=1e-5))
    inputs = {**text, "pixel_values": images["pixel_values"].double(), "pixel_mask": images["pixel_mask"]}
    with torch.inference_mode():
        theirs = Adapted(network.double(), torch.device("cpu"))(**inputs)
        ours = reference.double()(**inputs)
    network.float()
    asked = int(text["attention_mask"].sum())
    assert torch.allclose(theirs.logits[..., :asked], ours.logits[..., :asked], atol=1e-4)
    assert torch.allclose(theirs.pred_boxes, ours.pred_boxes, atol=1e-5)
    assert ours.pred_boxes.std() > 0.05 and ours.logits[..., :asked].std() > 0.05


def test_the_authors_files_find_boxes_and_load_strictly(files):
    spec = PackagedGroundingDinoSpec(
        kind="groundingdino", source=str(files / "dino.pth"), architecture="swin_t", tokenizer=str(files / "texts"),
        precision="fp32", min_score=0.0,
    )  # fmt: skip
    images, asked = [photograph("astronaut", 128), photograph("coffee", 128)], [[Tag("cat", 1.0), Tag("cup", 1.0)]] * 2
    found = build_detector(spec).detect(images, asked)
    alone = build_detector(spec).detect(images[1:], asked[1:])[0]
    assert len(found[0]) and {box.tag for box in found[1]} <= {"cat", "cup"}
    np.testing.assert_allclose([box.xyxy for box in found[1]], [box.xyxy for box in alone], atol=1e-4)
    held = torch.load(files / "dino.pth")
    del held["model"]["module.feat_map.bias"]
    torch.save(held, files / "dino.pth")
    with pytest.raises(UserError, match=r"lacks 1 tensors, the first being feat_map\.bias"):
        build_detector(spec).detect(images, asked)


def test_other_words_of_the_tokenizer_are_another_detector(files):
    """Where its folder lies is none of it."""

    def named(texts: Path) -> tuple[object, object]:
        spec = GroundSpec(
            tagger=PaletteTaggerSpec(kind="palette"),
            detector=PackagedGroundingDinoSpec(
                kind="groundingdino", source=str(files / "dino.pth"), architecture="swin_t", tokenizer=str(texts)
            ),
            segmenter=ComponentSegmenterSpec(kind="components"),
        )
        return identity_of(spec), spec.content()

    before = named(files / "texts")
    moved = (files / "texts").rename(files / "moved")
    assert named(moved) == before
    words = moved / "tokenizer.json"
    words.write_text(words.read_text().replace('"cat"', '"tac"'))
    identity, content = named(moved)
    assert identity != before[0] and content == before[1]


def test_an_old_layout_of_transformers_loads_with_the_same_boxes(files):
    """As published: the decoder's heads under both names, and constants of Swin that are computed now."""

    def boxes():
        spec = GroundingDinoSpec(
            kind="grounding_dino", source=str(files / "texts"), precision="fp32", min_score=0.0
        )  # fmt: skip
        return build_detector(spec).detect([photograph("astronaut", 128)], [[Tag("cat", 1.0)]])

    new, path = boxes(), files / "texts/model.safetensors"
    tensors = load_file(path)
    heads = {name: value for name, value in tensors.items() if name.startswith("bbox_embed.0.")}
    for index in (0, 1):
        tensors |= {f"model.decoder.{name.replace('.0.', f'.{index}.', 1)}": v.clone() for name, v in heads.items()}
    for stage in range(4):
        place = f"{SWIN}.encoder.layers.{stage}.blocks.0.attention.self.relative_position_index"
        tensors[place] = torch.zeros(16, 16, dtype=torch.long)
    for name in heads:
        del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    assert boxes() == new
