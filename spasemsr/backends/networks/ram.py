"""The Recognize Anything Model: a Swin image encoder and a head that says of 4,585 tags which are there.

Written on timm's Swin with the names of the published file (`ram_swin_large_14m.pth`), which is loaded by them,
strictly: what belongs to RAM's captioning is named and passed over, anything else must fit. B images, R rows of width
K (the representation: row 0 is the mean of the others, which are cells in reading order), T tags, W width of the head.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.networks.spec import RamSizeSpec
from spasemsr.weights.tensors import load_strictly, read_state_dict

if TYPE_CHECKING:
    from timm.models.swin_transformer import SwinTransformer

_CAPTIONING = ("tag_encoder.", "text_decoder.")  # parts of the file that tagging does not use
_COMPUTED = re.compile(r"^visual_encoder\..*(attn_mask|relative_position_index)$")  # constants, saved by old versions
_DOWNSAMPLE = re.compile(r"^visual_encoder\.layers\.(\d+)\.downsample\.")
_EPSILON = 1e-12  # BERT's layer norms


class CrossAttention(nn.Module):
    """BERT's cross-attention, under its names."""

    def __init__(self, width: int, kv_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self = nn.ModuleDict(
            {"query": nn.Linear(width, width), "key": nn.Linear(kv_width, width), "value": nn.Linear(kv_width, width)}
        )
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, _EPSILON)})

    def forward(self, tags_BTW: Tensor, rows_BRK: Tensor) -> Tensor:
        """(B, T, W), (B, R, K) -> (B, T, W)."""
        query, key, value = (
            self.self[name](source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name, source in (("query", tags_BTW), ("key", rows_BRK), ("value", rows_BRK))
        )
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.output["LayerNorm"](self.output["dense"](attended) + tags_BTW)


class TaggingLayer(nn.Module):
    """A BERT layer without self-attention: tags look at the image, not at each other."""

    def __init__(self, width: int, kv_width: int, heads: int) -> None:
        super().__init__()
        self.crossattention = CrossAttention(width, kv_width, heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 4 * width)})
        self.output = nn.ModuleDict({"dense": nn.Linear(4 * width, width), "LayerNorm": nn.LayerNorm(width, _EPSILON)})

    def forward(self, tags_BTW: Tensor, rows_BRK: Tensor) -> Tensor:
        """(B, T, W), (B, R, K) -> (B, T, W)."""
        attended = self.crossattention(tags_BTW, rows_BRK)
        wide = functional.gelu(self.intermediate["dense"](attended))
        return self.output["LayerNorm"](self.output["dense"](wide) + attended)


class Ram(nn.Module):
    """Images -> representation -> logits of tags."""

    def __init__(self, size: RamSizeSpec) -> None:
        super().__init__()
        self.visual_encoder = _swin(size)
        self.image_proj = nn.Linear(8 * size.embed_dim, size.width)
        self.label_embed = nn.Parameter(torch.zeros(size.tags, size.width))
        self.wordvec_proj = nn.Linear(size.width, size.head_width)
        layers = nn.ModuleList(TaggingLayer(size.head_width, size.width, size.head_heads) for _ in range(2))
        self.tagging_head = nn.ModuleDict({"encoder": nn.ModuleDict({"layer": layers})})
        self.fc = nn.Linear(size.head_width, 1)

    def represent(self, images_B3SS: Tensor) -> Tensor:
        """(B, 3, S, S), normalised as ImageNet's -> (B, R, K)."""
        cells_BNC = self.visual_encoder.forward_features(images_B3SS).flatten(1, 2)
        return self.image_proj(torch.cat([cells_BNC.mean(1, keepdim=True), cells_BNC], dim=1))

    def logits(self, rows_BRK: Tensor) -> Tensor:
        """(B, R, K) -> (B, T)."""
        tags_TW = functional.relu(self.wordvec_proj(self.label_embed))
        tags_BTW = tags_TW.expand(len(rows_BRK), -1, -1)
        for layer in self.tagging_head["encoder"]["layer"]:
            tags_BTW = layer(tags_BTW, rows_BRK)
        return self.fc(tags_BTW).squeeze(-1)


def load_ram(path: Path, size: RamSizeSpec) -> Ram:
    """The network of a published file, frozen. Raises UserError naming what is missing, unknown or of another shape."""
    state = read_state_dict(path)
    state = dict(state["model"]) if isinstance(state.get("model"), Mapping) else state
    network = Ram(size)
    load_strictly(network, {_renamed(name): tensor for name, tensor in state.items() if _used(name)}, str(path))
    return network.eval().requires_grad_(False)


def _used(name: str) -> bool:
    return not name.startswith(_CAPTIONING) and not _COMPUTED.match(name)


def published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's tensors under the names of the published file, as `load_ram` reads them."""
    return {_renamed(name, -1): tensor for name, tensor in state.items()}


def _renamed(name: str, by: int = 1) -> str:
    """timm halves the size at the start of a stage, the original at the end of the one before."""
    return _DOWNSAMPLE.sub(lambda found: f"visual_encoder.layers.{int(found[1]) + by}.downsample.", name)


def _swin(size: RamSizeSpec) -> "SwinTransformer":
    from timm.models.swin_transformer import SwinTransformer

    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", "drop_path_rate": 0.0}
    return SwinTransformer(
        img_size=size.image_size,
        embed_dim=size.embed_dim,
        depths=size.depths,
        num_heads=size.heads,
        window_size=size.window,
        **options,
    )
