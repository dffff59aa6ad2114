"""MS-GAM: edge, depth and region maps modulate the states of UNet and ControlNet (MegaSR eq. 8, 9).

B batch, C channels, H W the size of a state, h w latent cells, F channels of the merged maps.

Stage one merges depth and regions into F^r, once for all positions; stage two modulates every state by the edges and by
F^r through a SAFT each. The literal form, SAFT(n, M^h) + SAFT(n, F^r) of the normalised state n, is about 2n at the
start and destroys the base; the residual form adds what each SAFT changes of n and is the identity at the start.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASS_WIDTH = 16  # of a region's class embedding
MERGED = 64  # F, channels of F^r
REDUCTION = 4  # of the channel attention
HIDDEN = 128  # of a SAFT


class MapFusion(nn.Module):
    """Depth and region labels -> F^r (eq. 8), with attention over channels."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, CLASS_WIDTH)
        self.lift = nn.Conv2d(1 + CLASS_WIDTH, MERGED, 1)
        self.conv = nn.Conv2d(MERGED, MERGED, 3, padding=1)
        self.weigh = nn.Sequential(
            nn.Linear(MERGED, MERGED // REDUCTION), nn.SiLU(), nn.Linear(MERGED // REDUCTION, MERGED), nn.Sigmoid()
        )

    def forward(self, depth_B1hw: Tensor, classes_Bhw: Tensor) -> Tensor:
        """Depth (B, 1, h, w) in [0, 1] and labels (B, h, w) int64 -> F^r (B, F, h, w).

        M^c = [depth; regions], F^s = conv(M^c), a = MLP(mean of F^s), F^r = (a F^s) M^c. Raises IndexError for a label
        beyond the classes.
        """
        regions_BKhw = self.embed(classes_Bhw).permute(0, 3, 1, 2)
        maps_BFhw = self.lift(torch.cat([depth_B1hw.to(regions_BKhw), regions_BKhw], dim=1))
        features_BFhw = self.conv(maps_BFhw)
        weights_BF = self.weigh(features_BFhw.mean((2, 3)))
        return weights_BF[:, :, None, None] * features_BFhw * maps_BFhw


class Saft(nn.Module):
    """Semantic adaptive feature transform: SAFT(n, m) = n (1 + gamma(m)) + beta(m); gamma and beta start at zero."""

    def __init__(self, guidance_channels: int, channels: int) -> None:
        super().__init__()
        widths = (guidance_channels, HIDDEN, HIDDEN, HIDDEN)
        self.shared = nn.Sequential()
        for narrow, wide in pairwise(widths):
            self.shared.extend([nn.Conv2d(narrow, wide, 1), nn.SiLU()])
        self.gamma, self.beta = nn.Conv2d(HIDDEN, channels, 1), nn.Conv2d(HIDDEN, channels, 1)
        for conv in (self.gamma, self.beta):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def change(self, normed_BCHW: Tensor, guidance_BMHW: Tensor) -> Tensor:
        """SAFT(n, m) - n = n gamma(m) + beta(m)."""
        shared = self.shared(guidance_BMHW)
        return normed_BCHW * self.gamma(shared) + self.beta(shared)


class Guidance(nn.Module):
    """MS-GAM of one position: a SAFT for the edges and one for F^r; either may be absent (Table 4)."""

    def __init__(self, channels: int, groups: int, edges: bool, regions: bool) -> None:
        super().__init__()
        self.groups = groups
        self.edges = Saft(1, channels) if edges else None
        self.regions = Saft(MERGED, channels) if regions else None

    def forward(self, hidden_BCHW: Tensor, edges_B1hw: Tensor, merged_BFhw: Tensor | None) -> Tensor:
        """(B, C, H, W) -> the same: h + [SAFT(n, M^h) - n] + [SAFT(n, F^r) - n], n = GroupNorm(h) without weights."""
        normed = functional.group_norm(hidden_BCHW, self.groups)
        out = hidden_BCHW
        for saft, guidance in ((self.edges, edges_B1hw), (self.regions, merged_BFhw)):
            if saft is not None:
                out = out + saft.change(normed, at_size(guidance, hidden_BCHW.shape[2:])).to(hidden_BCHW.dtype)
        return out


def build_guidance(channels: Sequence[int], groups: int, edges: bool, regions: bool) -> nn.ModuleList:
    """MS-GAM for positions of these widths."""
    return nn.ModuleList(Guidance(width, groups, edges, regions) for width in channels)


def at_size(maps_BMhw: Tensor, size: Sequence[int]) -> Tensor:
    """Maps averaged over the cells of a coarser grid, so that no thin edge is lost.

    The last cells of an odd side average what is left of it. Adaptive pooling has no deterministic gradient on a GPU.
    """
    strides = [-(-side // wanted) for side, wanted in zip(maps_BMhw.shape[2:], size, strict=True)]
    return functional.avg_pool2d(maps_BMhw, strides, ceil_mode=True)
