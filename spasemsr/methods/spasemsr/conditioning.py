"""The network's conditions besides the LR image: base prompt, caption, and objects as text with boxes.

B batch, N objects including the null object at index 0, G text rows per object, L rows per sentence, D text width.

The null object (BOS and EOS of the empty string, box 0 0 1 1) is always valid: attention over a row without a valid
key would fall back to an average of padding. Padding objects are zero and masked. This file holds no text encoder;
whoever builds a Conditioning gives it encoded text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
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

    def __len__(self) -> int:
        return self.base_BLD.shape[0]

    def rows(self, index: slice | Tensor) -> "Conditioning":
        """The samples at `index`: a slice, an index tensor or a boolean mask over the batch."""
        return Conditioning(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device | str) -> "Conditioning":
        """A copy on another device."""
        return Conditioning(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def padded(self, objects: int) -> "Conditioning":
        """Padding objects added at the end, up to `objects` in all (null included); ValueError if there are more."""
        missing = objects - self.tokens_BNGD.shape[1]
        if missing < 0:
            raise ValueError(f"cannot pad {self.tokens_BNGD.shape[1]} objects to {objects}")
        return replace(
            self,
            tokens_BNGD=F.pad(self.tokens_BNGD, (0, 0, 0, 0, 0, missing)),
            token_mask_BNG=F.pad(self.token_mask_BNG, (0, 0, 0, missing)),
            pooled_BND=F.pad(self.pooled_BND, (0, 0, 0, missing)),
            boxes_BN4=F.pad(self.boxes_BN4, (0, 0, 0, missing)),
        )


def cat_conditionings(parts: Sequence[Conditioning]) -> Conditioning:
    """One batch of several, in order, for guidance or tiles; fewer objects are padded to the largest number."""
    objects = max(part.tokens_BNGD.shape[1] for part in parts)
    padded = [part.padded(objects) for part in parts]
    names = [field.name for field in fields(Conditioning)]
    return Conditioning(**{name: torch.cat([getattr(part, name) for part in padded]) for name in names})
