"""The share of every latent cell that a box covers."""

import torch
from torch import Tensor


def covered(
    boxes_BN4: Tensor, rows: int, columns: int, height: float | None = None, width: float | None = None
) -> Tensor:
    """Boxes x0 y0 x1 y1 in shares of a picture -> (B, N, rows, columns) float32 in [0, 1].

    The picture begins at the grid's first cell and is `height` times `width` cells large, the grid where not stated.
    """
    x0, y0, x1, y1 = boxes_BN4.float().unbind(-1)
    down = _along(y0, y1, rows, rows if height is None else height)
    return down.unsqueeze(-1) * _along(x0, x1, columns, columns if width is None else width).unsqueeze(-2)


def _along(first_BN: Tensor, last_BN: Tensor, cells: int, length: float) -> Tensor:
    """(B, N, cells): how much of each cell of an axis lies between two places in [0, 1] of `length` cells."""
    edges = torch.arange(cells + 1, device=first_BN.device, dtype=torch.float32)
    first, last = first_BN.unsqueeze(-1) * length, last_BN.unsqueeze(-1) * length
    return (torch.minimum(last, edges[1:]) - torch.maximum(first, edges[:-1])).clamp(0.0, 1.0)
