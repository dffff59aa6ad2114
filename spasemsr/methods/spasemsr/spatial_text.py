"""The spatial-aware text encoder after CLIP: box positional encoding and object-wise fusion (eq. 5).

B batch, N objects including the null object, G text rows per object, D text width, M = N G.

Text comes in already encoded, one object at a time, so what leaves is a set: no position index is added across
objects, and reordering objects only reorders rows.
"""

import torch
from torch import Tensor, nn

from spasemsr.methods.protocol import Addition
from spasemsr.methods.spasemsr.conditioning import Conditioning

FREQUENCIES, TEMPERATURE = 8, 100.0  # GLIGEN's; one latent pixel of 64 turns the fastest phase by 0.88 rad
ENCODING_WIDTH = 4 * 2 * FREQUENCIES


def encode_boxes(boxes_BN4: Tensor) -> Tensor:
    """F_PE of eq. 5: (B, N, 4) -> (B, N, 64) in fp32; per coordinate u, all sin(w_k u), then all cos(w_k u).

    w_k = 100^(k/8), k = 0..7.
    """
    exponents = torch.arange(FREQUENCIES, device=boxes_BN4.device, dtype=torch.float32) / FREQUENCIES
    phases = boxes_BN4.float().unsqueeze(-1) * TEMPERATURE**exponents
    return torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2)


class BoxFusion(Addition):
    """F_fusion of eq. 5: an object's pooled text and box -> the displacement of its text rows; zero at the start."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Linear(width + ENCODING_WIDTH, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, width),
        )  # fmt: skip
        self.silence()

    def silence(self) -> None:
        """No displacement."""
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, pooled_BND: Tensor, boxes_BN4: Tensor) -> Tensor:
        """(B, N, D), (B, N, 4) -> (B, N, D): delta_k, added to every text row of object k."""
        normed = self.norm(pooled_BND)
        return self.layers(torch.cat([normed, encode_boxes(boxes_BN4).to(normed.dtype)], dim=-1))


def spatial_text(conditioning: Conditioning, fusion: BoxFusion | None) -> tuple[Tensor, Tensor]:
    """e_spa-text of eq. 5 and its mask: (B, M, D) and bool (B, M).

    Without a fusion (`spatial.boxes` off), or where `use_boxes_B` is False, the displacement is zero. Raises ValueError
    when a sample has no valid row: attention would then average its padding without a sign of it.
    """
    rows_BNGD, mask_BNG = conditioning.tokens_BNGD, conditioning.token_mask_BNG
    empty = ~mask_BNG.flatten(1).any(dim=1)
    if empty.any():
        raise ValueError(
            f"samples {empty.nonzero().flatten().tolist()} have no valid text row; the null object must always be valid"
        )
    if fusion is not None:
        delta_BN1D = fusion(conditioning.pooled_BND, conditioning.boxes_BN4).unsqueeze(2).to(rows_BNGD.dtype)
        displaced = mask_BNG & conditioning.use_boxes_B.view(-1, 1, 1)
        rows_BNGD = torch.where(displaced.unsqueeze(-1), rows_BNGD + delta_BN1D, rows_BNGD)
    return rows_BNGD.flatten(1, 2), mask_BNG.flatten(1)
