"""The larger network of `restore: {kind: aware, crisp: ...}`: its image looks like a photograph.

It is a part of Real-ESRGAN x4plus (Wang et al. 2021: an RRDBNet of 23 blocks, BSD-3-Clause), trained further: eight of
the blocks, without which the image changes most, between its first layer and its last ones. Shapes: B batch, u v
pixels of lr.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS, FEATURES, GROWTH = 8, 64, 32
CONVOLUTIONS, DENSE = 5, 3  # of a dense block, of these in a block
SCALED, SLOPE = 0.2, 0.2  # what a block adds counts so much; of the activation


class DenseBlock(nn.Module):
    """Convolutions that see all that those before them made."""

    def __init__(self) -> None:
        super().__init__()
        made = [GROWTH] * (CONVOLUTIONS - 1) + [FEATURES]
        self.convs = nn.ModuleList(
            nn.Conv2d(FEATURES + index * GROWTH, count, 3, padding=1) for index, count in enumerate(made)
        )

    def forward(self, x_BFuv: Tensor) -> Tensor:
        """Of the same shape."""
        seen = [x_BFuv]
        for conv in list(self.convs)[:-1]:
            seen.append(functional.leaky_relu(conv(torch.cat(seen, 1)), SLOPE))
        return torch.add(x_BFuv, self.convs[-1](torch.cat(seen, 1)), alpha=SCALED)


class Block(nn.Module):
    """A residual block of dense blocks (RRDB)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.ModuleList(DenseBlock() for _ in range(DENSE))

    def forward(self, x_BFuv: Tensor) -> Tensor:
        """Of the same shape."""
        y_BFuv = x_BFuv
        for dense in self.dense:
            y_BFuv = dense(y_BFuv)
        return torch.add(x_BFuv, y_BFuv, alpha=SCALED)


class CrispNetwork(nn.Module):
    """lr in [0, 1] -> the image, four times as large, before `anchored`."""

    def __init__(self) -> None:
        super().__init__()

        def same() -> nn.Conv2d:
            return nn.Conv2d(FEATURES, FEATURES, 3, padding=1)

        self.head = nn.Conv2d(3, FEATURES, 3, padding=1)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.body, self.up1, self.up2, self.last = same(), same(), same(), same()
        self.out = nn.Conv2d(FEATURES, 3, 3, padding=1)

    def forward(self, lr_B3uv: Tensor) -> Tensor:
        """(B, 3, u, v) -> (B, 3, 4u, 4v)."""
        head = self.head(lr_B3uv)
        x = head
        for block in self.blocks:
            x = block(x)
        x = head + self.body(x)
        for up in (self.up1, self.up2):
            x = functional.leaky_relu(up(functional.interpolate(x, scale_factor=2.0)), SLOPE)
        return self.out(functional.leaky_relu(self.last(x), SLOPE))
