"""Words bound to their places: an additive bias on attention logits (`spatial.binding: bias`).

B batch, N objects with the null object at 0, G text rows per object, M = N G, C channels, H W the size of a state, h w
latent cells.

In the paper a box is known to an object's keys alone (eq. 5), and a query has no position, so that a
network has to learn from its features which cell is inside which box. Here the logit of a cell towards the rows of
object k gets `strength_head * (share of the cell outside object k's box)`. The null object, a sample without boxes and
padding are outside nothing. The bias stands beside the displacement of eq. 5, which stays as it is.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spasemsr.diffusion.coverage import covered
from spasemsr.methods.protocol import Addition

FULL = -6.0  # nats: a word weighs 1/400 outside its box


class RegionBias(Addition):
    """The bias of one attention position: a strength per head, `start * FULL` nats before training.

    The parameter counts in units of FULL, so that a step of the optimizer moves it as far as it moves other weights in
    proportion to their size.
    """

    def __init__(self, heads: int, start: float) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.full((heads,), start))

    def silence(self) -> None:
        """No bias; what a trained network without one starts from, to learn it."""
        nn.init.zeros_(self.strength)

    def forward(self, inside_BNhw: Tensor, mask_BM: Tensor, size: Sequence[int]) -> Tensor:
        """What is added to the logits of an (H, W) state, (B heads, H W, M) float32, masked rows at -10000.

        `inside` is pooled to the state's size by area; three dimensions are what diffusers' attentions take as they
        are, with batch and heads in one.
        """
        outside = 1.0 - F.adaptive_avg_pool2d(inside_BNhw, tuple(size)).flatten(2)
        rows = outside.repeat_interleave(mask_BM.shape[1] // outside.shape[1], dim=1).transpose(1, 2)  # (B, HW, M)
        padding = (1 - mask_BM.to(rows.dtype))[:, None, None] * -10000.0  # diffusers' bias of a mask
        bias = (FULL * self.strength)[:, None, None] * rows[:, None] + padding
        return bias.flatten(0, 1)


def keys_seen(bias: RegionBias | None, x_BCHW: Tensor, mask_BM: Tensor, inside_BNhw: Tensor | None) -> Tensor:
    """What an attention from `x` to the object rows takes as its mask: the mask itself, or the bias that holds it."""
    return mask_BM if bias is None or inside_BNhw is None else bias(inside_BNhw, mask_BM, x_BCHW.shape[2:])


def inside_boxes(boxes_BN4: Tensor, located_B: Tensor, height: int, width: int) -> Tensor:
    """The share of every cell of a (height, width) grid that each box covers, (B, N, height, width) float32 in [0, 1].

    The null object, and every object of a sample whose `located` is False, cover everything.
    """
    inside = covered(boxes_BN4, height, width)
    everywhere = ~located_B[:, None] | (torch.arange(inside.shape[1], device=inside.device) == 0)
    return torch.where(everywhere[..., None, None], 1.0, inside)
