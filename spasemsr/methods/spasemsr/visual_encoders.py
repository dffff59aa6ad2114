"""The image and semantic encoders of the LR (sec. 3.3), and the injection of what they see (eq. 7).

B batch, H W pixels of the LR at HR size, h w = H/8 W/8 latent cells, C_0 channels of the UNet's first level.

Both are convolutional and see the LR alone. E_img is ControlNet's hint stack (receptive field 47 px); E_sem continues
it with ConvNeXt blocks at stride 8 (239 px), which is what separates meaning from structure here.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HintStack(nn.Module):
    """Pixels to latent resolution: a 3x3 conv, then three stages of a 3x3 conv and one of stride 2, SiLU after each."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, channels[0], 3, padding=1)]
        for wide, wider in pairwise(channels):
            layers += [nn.Conv2d(wide, wide, 3, padding=1), nn.Conv2d(wide, wider, 3, padding=1, stride=2)]
        self.layers = nn.ModuleList(layers)
        for layer in self.layers:
            keep_variance(layer, gain=2.0)  # SiLU passes on about a quarter of a centred input's power

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, channels[-1], h, w)."""
        hidden = images_B3HW
        for layer in self.layers:
            hidden = F.silu(layer(hidden), inplace=not torch.is_grad_enabled())
        return hidden


def keep_variance(conv: nn.Conv2d, gain: float) -> None:
    """Normal weights of deviation gain / sqrt(fan_in), zero bias, so that a picture's contrast survives the stack.

    torch's default shrinks it at every conv: after seven of them the output's deviation was 0.0035, hardly a function
    of the image, and the control branch had nothing to learn from for hundreds of steps.
    """
    nn.init.normal_(conv.weight, std=gain / conv.weight[0].numel() ** 0.5)
    nn.init.zeros_(conv.bias)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, four times wider with GELU, back, layer scale 1e-6, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.layer_scale = nn.Parameter(1e-6 * torch.ones(channels))

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        hidden = self.norm(self.depthwise(x_BChw).permute(0, 2, 3, 1))
        hidden = self.layer_scale * self.narrow(F.gelu(self.widen(hidden)))
        return x_BChw + hidden.permute(0, 3, 1, 2)


class VisualEncoder(nn.Module):
    """E_img (`blocks` 0) or E_sem: hint stack, ConvNeXt blocks, and a last conv to `width` channels."""

    def __init__(self, channels: Sequence[int], blocks: int, width: int) -> None:
        super().__init__()
        self.stack = HintStack(channels)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(channels[-1]) for _ in range(blocks)))
        self.conv_out = nn.Conv2d(channels[-1], width, 3, padding=1)
        keep_variance(self.conv_out, gain=1.0)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, width, h, w)."""
        return self.conv_out(self.blocks(self.stack(images_B3HW)))


class Injection(nn.Module):
    """Y_0..Y_4: zero 1x1 convs that add x_sem-img (eq. 7) at the entry of every level of the ControlNet."""

    STRIDES = (1, 2, 4, 8, 8)  # after conv_in; entry of down blocks 1, 2, 3; entry of the mid block

    def __init__(self, features: int, block_channels: Sequence[int]) -> None:
        super().__init__()
        widths = (block_channels[0], *block_channels)
        self.convs = nn.ModuleList(nn.Conv2d(features, width, 1) for width in widths)
        for conv in self.convs:
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, entry: int, hidden_BChw: Tensor, features_BChw: Tensor) -> Tensor:
        """Hidden states at `entry` (0..4) plus the features, averaged over the latent cells each position covers."""
        stride = self.STRIDES[entry]
        # Odd sizes: the last cell averages what is left of it, as the stride-2 convs of the backbone round up.
        pooled = F.avg_pool2d(features_BChw, stride, ceil_mode=True) if stride > 1 else features_BChw
        return hidden_BChw + self.convs[entry](pooled).to(hidden_BChw.dtype)
