"""A small convolutional network that predicts from a degraded picture what a fixed extractor makes of the original.

B images, H W pixels, h w cells of 8 px, O numbers of a cell, G cells along a side of a grid.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.extractors.spec import CELL, AnyStudentSpec, StudentLabelsSpec, StudentMapSpec
from spasemsr.backends.networks.resampled import resampled

PLACE = 2  # last numbers of a row: where its cell is, which needs no network


class SmallStudent(nn.Module):
    """Three convs of stride 2, two residual ones, and what is asked for of each cell, or of the cells of a grid."""

    def __init__(self, channels: int, outputs: int, grid: int | None) -> None:
        """Weights come from torch's generator. With a `grid` answers are rows: the whole, then its cells."""
        super().__init__()
        widths = (3, channels, channels, channels)
        self.down = nn.ModuleList(nn.Conv2d(*pair, 3, stride=2, padding=1) for pair in pairwise(widths))
        self.deeper = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.head = nn.Conv2d(channels, outputs, 1)
        self.grid = grid

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, O, h, w), or with a grid (B, 1 + G^2, O); parts of a cell are left out."""
        height, width = (side // CELL * CELL for side in images_B3HW.shape[2:])
        if not height or not width:
            raise ValueError(f"an image of {images_B3HW.shape[3]}x{images_B3HW.shape[2]} has no cell of {CELL} px")
        hidden = images_B3HW[:, :, :height, :width] * 2 - 1
        for conv in self.down:
            hidden = functional.silu(conv(hidden))
        for conv in self.deeper:
            hidden = hidden + functional.silu(conv(hidden))
        cells_BOhw = self.head(hidden)
        if self.grid is None:
            return cells_BOhw
        means = [resampled(functional.adaptive_avg_pool2d, cells_BOhw, (side, side)) for side in (1, self.grid)]
        return torch.cat([mean.flatten(2) for mean in means], dim=2).transpose(1, 2)


def small_student(spec: AnyStudentSpec) -> SmallStudent:
    """The network of a student, its weights drawn."""
    match spec:
        case StudentMapSpec():
            return SmallStudent(spec.channels, 1, None)
        case StudentLabelsSpec():
            return SmallStudent(spec.channels, spec.classes, None)
    return SmallStudent(spec.channels, spec.width - PLACE, spec.of.grid)


def places(grid: int) -> Tensor:
    """(1 + G^2, 2): the centre of the whole and of each cell in reading order, down and across, in [0, 1]."""
    centres = (torch.arange(grid) + 0.5) / grid
    cells = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), dim=-1).flatten(0, 1)
    return torch.cat([torch.full((1, PLACE), 0.5), cells])
