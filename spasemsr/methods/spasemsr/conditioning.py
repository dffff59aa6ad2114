"""The network's conditions besides the LR image: base prompt, caption, and objects as text with boxes.

B batch, N objects including the null object at index 0, G text rows per object, L rows per sentence, D text width.

The null object (BOS and EOS of the empty string, box 0 0 1 1) is always valid: attention over a row without a valid
key would fall back to an average of padding. Padding objects are zero and masked. This file holds no text encoder;
whoever builds a Conditioning gives it encoded text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """The text side of one batch; every tensor has the batch as its first dimension."""

    base_BLD: Tensor  # e_base: the prompt of the base denoiser's own attention
    caption_BLD: Tensor  # e_deg-text, eq. 6; never masked, as in SD
    tokens_BNGD: Tensor  # E_tok, eq. 4: content rows, then the EOS row
    token_mask_BNG: Tensor  # bool: object valid and row in use
    pooled_BND: Tensor  # t_k: the EOS row of each object
    boxes_BN4: Tensor  # x0 y0 x1 y1 in [0, 1]; null object 0 0 1 1, padding zeros
    use_boxes_B: Tensor  # bool; False: the box displacement of eq. 5 is zero for this sample

    def present(self) -> Conditioning:
        """Without the objects at the end that no sample of the batch has: their keys weigh nothing and take time."""
        there = self.token_mask_BNG.any(dim=2).any(dim=0).nonzero()
        count = int(there.max()) + 1 if len(there) else 0
        tokens, masks, pooled, boxes = (
            rows[:, :count] for rows in (self.tokens_BNGD, self.token_mask_BNG, self.pooled_BND, self.boxes_BN4)
        )
        return replace(self, tokens_BNGD=tokens, token_mask_BNG=masks, pooled_BND=pooled, boxes_BN4=boxes)
