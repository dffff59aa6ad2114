"""The two building blocks of every added attention (eq. 10, sec. 3.5): Full2D and Cross2D, and their initialisations.

B batch, C channels, H W pixels, M key rows, K key width.

Both map x (B, C, H, W) and keys/values (B, M, K), with an optional mask (B, M) where True is kept, to (B, C, H, W) and
carry their own residual, so that a zero `proj_out` makes a block exactly the identity. A masked key weighs exactly
zero in fp32 as long as its row has one valid key; a row without any averages its padding, and whoever builds masks
must not let that happen (`spatial_text.py` refuses it). A mask of three dimensions, (B heads, HW, M), is added to the
logits as it is.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from spasemsr.diffusion.guided import attentions_of
from spasemsr.diffusion.library import Attention, Transformer2DModel

Kind = Literal["full", "cross"]

# What `clone` copies, by kind: explicit names, because shapes that agree by accident must not be copied.
_BLOCK = "transformer_blocks.0"
_ATTENTION_2 = tuple(f"attn2.{name}" for name in ("to_q.weight", "to_out.0.weight", "to_out.0.bias"))
KEYS_AND_VALUES = ("attn2.to_k.weight", "attn2.to_v.weight")
_FRAME = ("norm.weight", "norm.bias", "proj_in.weight", "proj_in.bias")
_INNER = (
    *(f"{norm}.{kind}" for norm in ("norm1", "norm2", "norm3") for kind in ("weight", "bias")),
    *(f"attn1.{name}" for name in ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "to_out.0.bias")),
    *_ATTENTION_2,
    *(f"ff.net.{name}" for name in ("0.proj.weight", "0.proj.bias", "2.weight", "2.bias")),
)


class Full2D(Transformer2DModel):
    """One diffusers transformer layer: self-attention, cross-attention and feed-forward; 20C^2 + 2KC + 21C numbers.

    Tensor names are those of SD's own attentions. Build it with `build_attention`.
    """

    def forward(self, x_BCHW: Tensor, kv_BMK: Tensor, mask_BM: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W) in the dtype of x."""
        out = super().forward(x_BCHW, kv_BMK, encoder_attention_mask=mask_BM, return_dict=False)[0]
        return out.to(x_BCHW.dtype)


class Cross2D(nn.Module):
    """Cross-attention alone, a pure function of the attention result beside the residual; 4C^2 + 2KC + 7C numbers."""

    def __init__(self, channels: int, kv_width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, kv_width, heads=heads, dim_head=channels // heads)
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x_BCHW: Tensor, kv_BMK: Tensor, mask_BM: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W) in the dtype of x."""
        query = self.norm2(self.proj_in(tokens(self.norm(x_BCHW))))
        bias = mask_BM
        if mask_BM is not None and mask_BM.ndim == 2:
            # The same additive bias diffusers makes of a mask, so that both kinds of block treat masks alike.
            bias = ((1 - mask_BM.to(query.dtype)) * -10000.0).unsqueeze(1)
        out = self.proj_out(self.attn2(query, encoder_hidden_states=kv_BMK, attention_mask=bias))
        return x_BCHW + out.transpose(1, 2).reshape(x_BCHW.shape).to(x_BCHW.dtype)


def tokens(x_BCHW: Tensor) -> Tensor:
    """Pixels as rows: (B, C, H, W) -> (B, HW, C)."""
    return x_BCHW.flatten(2).transpose(1, 2)


def text_attention(block: nn.Module) -> Attention:
    """The cross-attention inside an SD attention or an added one."""
    return block.attn2 if isinstance(block, Cross2D) else block.transformer_blocks[0].attn2


def build_attention(kind: Kind, channels: int, kv_width: int, heads: int, groups: int) -> Full2D | Cross2D:
    """An added attention with library initialisation; `groups` is the UNet's norm_num_groups."""
    if kind == "cross":
        return Cross2D(channels, kv_width, heads, groups)
    return Full2D(
        num_attention_heads=heads,
        attention_head_dim=channels // heads,
        in_channels=channels,
        norm_num_groups=groups,
        cross_attention_dim=kv_width,
        use_linear_projection=True,
    )


def clone(block: Full2D | Cross2D, source: Transformer2DModel, keys_and_values: bool = True) -> None:
    """Copy SD's attention at the same position into an added one.

    Full2D takes all 26 tensors, Cross2D norm, proj_in, norm2 and attn2. `keys_and_values` False leaves attn2's key and
    value projections as initialised, for blocks whose keys are not text.
    """
    inner = (*_INNER, *KEYS_AND_VALUES) if keys_and_values else _INNER
    if isinstance(block, Full2D):
        names = {name: name for name in (*_FRAME, "proj_out.weight", "proj_out.bias")}
        names |= {f"{_BLOCK}.{name}": f"{_BLOCK}.{name}" for name in inner}
    else:
        names = {name: name for name in _FRAME}
        names |= {name: f"{_BLOCK}.{name}" for name in inner if name.startswith(("norm2.", "attn2."))}
    target, origin = dict(block.named_parameters()), dict(source.named_parameters())
    with torch.no_grad():
        for name, source_name in names.items():
            target[name].copy_(origin[source_name])


def zero_out(block: Full2D | Cross2D) -> None:
    """Make a block exactly the identity until it is trained: its last projection becomes zero."""
    nn.init.zeros_(block.proj_out.weight)
    nn.init.zeros_(block.proj_out.bias)


def side_attentions(model: nn.Module, kv_width: int, groups: int, kind: Kind = "full") -> nn.ModuleList:
    """One added attention per attention of a UNet or ControlNet, in walking order, each the identity at the start."""
    blocks = nn.ModuleList()
    for source in attentions_of(model):
        block = build_attention(kind, source.config.in_channels, kv_width, source.config.num_attention_heads, groups)
        zero_out(block)
        blocks.append(block)
    return blocks
