"""SD's attention spelled out, and CISM2 inside it (MegaSR eq. 7).

B batch, C channels, H W the size of a state, T = HW tokens, L text rows of width D, P image rows of width E.

CISM2, the customized image semantic mining module, asks SD's own cross-attention a second question: beside the text,
the same frozen weights attend to the image's semantic rows, translated into text space for this block alone. So the
block is walked here step by step; with CISM2 absent it equals diffusers' Transformer2DModel bit for bit.
"""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from spasemsr.diffusion.attention import tokens
from spasemsr.diffusion.guided import attentions_of

if TYPE_CHECKING:
    from diffusers import Transformer2DModel


class Cism2(nn.Module):
    """One block's trained part: Lin_l, E -> D, and LinOut, C -> C, which is zero at the start."""

    def __init__(self, image_width: int, text_width: int, channels: int) -> None:
        super().__init__()
        self.translate = nn.Linear(image_width, text_width)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)


def build_cism2(unet: nn.Module, image_width: int) -> nn.ModuleList:
    """One CISM2 for each attention of a UNet, in walking order; 33,390,784 numbers for SD 2.1-base and E = 1280."""
    width = unet.config.cross_attention_dim
    return nn.ModuleList(Cism2(image_width, width, source.config.in_channels) for source in attentions_of(unet))


def attend(
    attention: "Transformer2DModel", hidden_BCHW: Tensor, text_BLD: Tensor, image_BPE: Tensor, cism2: Cism2 | None
) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W): SD's transformer with F^t + LinOut(F^i) in the place of F^t.

    F^t = attn2(norm2(h), text) and F^i = attn2(norm2(h), Lin_l(image)) with the same weights, which a frozen base keeps
    as SD's. The paper replaces F^t by F'; read inside SD's residual structure that is the sum.
    """
    block = attention.transformer_blocks[0]
    states_BTC = attention.proj_in(tokens(attention.norm(hidden_BCHW)))
    states_BTC = block.attn1(block.norm1(states_BTC)) + states_BTC
    query_BTC = block.norm2(states_BTC)
    mined_BTC = block.attn2(query_BTC, encoder_hidden_states=text_BLD)
    if cism2 is not None:
        rows_BPD = cism2.translate(image_BPE)
        mined_BTC = mined_BTC + cism2.out(block.attn2(query_BTC, encoder_hidden_states=rows_BPD))
    states_BTC = mined_BTC + states_BTC
    states_BTC = block.ff(block.norm3(states_BTC)) + states_BTC
    out_BTC = attention.proj_out(states_BTC)
    return out_BTC.transpose(1, 2).reshape(hidden_BCHW.shape).contiguous() + hidden_BCHW
