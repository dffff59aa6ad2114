"""Tiny random checkpoints of RAM, CLIP's image encoder, SegFormer and Depth Anything, in their published layouts.

`write_vision` makes them in a folder; `vision_features` are the sections `features` of the methods that read them.
"""

import re
from pathlib import Path
from typing import Any

import torch

from pipeline.tools.tiny_steps import clip_vision_config, depth_anything_config, segformer_config
from spasemsr.backends.networks.ram import Ram
from spasemsr.backends.networks.spec import RamSizeSpec

RAM = RamSizeSpec(
    image_size=64, embed_dim=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=2, width=12, tags=7, head_width=16,
    head_heads=4,
)  # fmt: skip

CLASSES = 5  # of the tiny SegFormer


def write_vision(folder: Path) -> Path:
    """Write every checkpoint below `folder`; the layout is what `vision_features` names."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ram(folder / "ram.pth")
    write_clip_vision(folder / "clip")
    write_segformer(folder / "segformer")
    write_depth_anything(folder / "depth")
    return folder


def vision_features(folder: Path) -> dict[str, dict[str, Any]]:
    """By method, what its features are extracted with: kinds of the foundation profile, sources and sizes of these."""

    def feature(kind: str, name: str, **sizes: Any) -> dict[str, Any]:
        return {"kind": kind, "source": str(folder / name), "precision": "fp32", **sizes}

    soft = feature("ram", "ram.pth", architecture=RAM.plain())
    labels = feature("segformer", "segformer", classes=CLASSES)
    return {
        "seesr": {"soft": soft},
        "segsr": {"labels": labels, "lq": feature("segformer_features", "segformer", channels=12)},
        "megasr": {
            "edges": {"kind": "edges"},
            "depth": feature("depth_anything", "depth"),
            "regions": labels,
            "image": feature("clip_vision", "clip", hidden=16, rows=5),
            "soft": soft,
        },
    }


def write_ram(path: Path, size: RamSizeSpec = RAM) -> Ram:
    """`ram_swin_large_14m.pth` in small: downsamplers at the end of a stage, constants, and the captioning parts."""
    torch.manual_seed(0)
    network = Ram(size).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    state = {}
    for name, tensor in network.state_dict().items():
        moved = re.sub(r"layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)
        state[moved] = tensor
    state["visual_encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(4, 4)
    state["visual_encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.long)
    state["tag_encoder.embeddings.word_embeddings.weight"] = torch.zeros(3, 2)
    state["text_decoder.cls.predictions.bias"] = torch.zeros(3)
    torch.save({"model": state}, path)
    return network


def write_clip_vision(folder: Path) -> None:
    from transformers import CLIPVisionModelWithProjection

    torch.manual_seed(1)
    CLIPVisionModelWithProjection(clip_vision_config()).save_pretrained(folder)


def write_segformer(folder: Path, classes: int = CLASSES) -> None:
    from transformers import SegformerForSemanticSegmentation

    torch.manual_seed(2)
    SegformerForSemanticSegmentation(segformer_config(classes)).save_pretrained(folder)


def write_depth_anything(folder: Path) -> None:
    from transformers import DepthAnythingForDepthEstimation

    torch.manual_seed(3)
    DepthAnythingForDepthEstimation(depth_anything_config()).save_pretrained(folder)
