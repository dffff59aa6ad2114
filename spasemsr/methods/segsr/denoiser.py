"""SegDM's denoiser: a three-level UNet over label maps, conditioned on what a segmenter and the image's diffusion see.

B batch, W its width, h w latent cells.

As in DDPS: residual blocks with weight-standardised convs and the time in a scale and shift, linear attention on every
level and full attention in the middle. Levels halve the size twice; odd sizes come back to the skip's size. With W of
256 and 528 input channels it has 44,020,480 numbers.
"""

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional

LEVELS, GROUPS = 3, 8
HEADS, HEAD_WIDTH = 4, 32


class StandardisedConv(nn.Conv2d):
    """A 3x3 conv whose filters have zero mean and unit variance, which suits GroupNorm."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) * (variance + 1e-5).rsqrt()
        return functional.conv2d(x_BCHW, weight, self.bias, padding=self.padding)


class ResidualBlock(nn.Module):
    """Two convs, GroupNorm and SiLU; time scales and shifts the first."""

    def __init__(self, channels: int, out: int, time_width: int) -> None:
        super().__init__()
        self.time = nn.Linear(time_width, 2 * out)
        self.first, self.first_norm = StandardisedConv(channels, out, 3, padding=1), nn.GroupNorm(GROUPS, out)
        self.second, self.second_norm = StandardisedConv(out, out, 3, padding=1), nn.GroupNorm(GROUPS, out)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x_BCHW: Tensor, time_BT: Tensor) -> Tensor:
        """(B, C, H, W), (B, T) -> (B, C', H, W)."""
        scale, shift = self.time(functional.silu(time_BT))[:, :, None, None].chunk(2, dim=1)
        hidden = functional.silu(self.first_norm(self.first(x_BCHW)) * (1 + scale) + shift)
        return functional.silu(self.second_norm(self.second(hidden))) + self.skip(x_BCHW)


class ChannelNorm(nn.Module):
    """Normalises the channels of each cell, with a learned gain and no shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))  # a vector, as what weight decay spares is

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        variance, mean = torch.var_mean(x_BCHW, dim=1, correction=0, keepdim=True)
        return (x_BCHW - mean) * (variance + 1e-5).rsqrt() * self.gain[:, None, None]


class Attention(nn.Module):
    """Attention between cells, added to them: full, or linear in their number as keys are summed up first."""

    def __init__(self, channels: int, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.out = nn.Conv2d(HEADS * HEAD_WIDTH, channels, 1)
        self.out_norm = ChannelNorm(channels) if linear else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        size, cells = x_BCHW.shape[2:], x_BCHW.shape[2] * x_BCHW.shape[3]
        qkv_BndT = self.qkv(self.norm(x_BCHW)).view(len(x_BCHW), 3 * HEADS, HEAD_WIDTH, cells)
        query, key, value = qkv_BndT.chunk(3, dim=1)
        if self.linear:
            query = query.softmax(dim=2) * HEAD_WIDTH**-0.5
            summed_Bndd = key.softmax(dim=3) @ (value / cells).transpose(2, 3)
            mixed = summed_Bndd.transpose(2, 3) @ query
        else:
            rows = (part.transpose(2, 3) for part in (query, key, value))
            mixed = functional.scaled_dot_product_attention(*rows).transpose(2, 3)
        return self.out_norm(self.out(mixed.reshape(len(x_BCHW), -1, *size))) + x_BCHW


class LabelDenoiser(nn.Module):
    """Features and time -> features (B, W, h, w), from which a 1x1 conv reads the labels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.width, time = width, 4 * width
        self.time = nn.Sequential(nn.Linear(width, time), nn.GELU(), nn.Linear(time, time))
        self.enter = nn.Conv2d(channels, width, 7, padding=3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level in range(LEVELS):
            last = level == LEVELS - 1
            smaller = nn.Conv2d(width, width, 3, padding=1) if last else nn.Conv2d(width, width, 4, 2, 1)
            blocks = [ResidualBlock(width, width, time), ResidualBlock(width, width, time)]
            self.down.append(nn.ModuleList([*blocks, Attention(width, linear=True), smaller]))
            blocks = [ResidualBlock(2 * width, width, time), ResidualBlock(2 * width, width, time)]
            conv = nn.Conv2d(width, width, 3, padding=1)
            self.up.append(nn.ModuleList([*blocks, Attention(width, linear=True), conv]))
        self.middle = nn.ModuleList([ResidualBlock(width, width, time), ResidualBlock(width, width, time)])
        self.middle_attention = Attention(width, linear=False)
        self.leave = ResidualBlock(2 * width, width, time)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x_BChw: Tensor, times_B: Tensor) -> Tensor:
        """(B, channels, h, w) at label times (B,) -> (B, W, h, w)."""
        time = self.time(get_timestep_embedding(times_B, self.width, downscale_freq_shift=1).to(x_BChw.dtype))
        entered = hidden = self.enter(x_BChw)
        skips: list[Tensor] = []
        for first, second, attention, smaller in self.down:
            skips.append(first(hidden, time))
            skips.append(attention(second(skips[-1], time)))
            hidden = smaller(padded_to_even(skips[-1]) if smaller.stride == (2, 2) else skips[-1])
        first, second = self.middle
        hidden = second(self.middle_attention(first(hidden, time)), time)
        for first, second, attention, conv in self.up:
            hidden = first(torch.cat([hidden, skips.pop()], dim=1), time)
            hidden = attention(second(torch.cat([hidden, skips.pop()], dim=1), time))
            size = skips[-1].shape[2:] if skips else hidden.shape[2:]
            hidden = conv(functional.interpolate(hidden, size=size) if size != hidden.shape[2:] else hidden)
        return self.out(self.leave(torch.cat([hidden, entered], dim=1), time))


def padded_to_even(x_BChw: Tensor) -> Tensor:
    """One more row or column, a copy of the last, where a side is odd: halving then rounds up."""
    down, right = (side % 2 for side in x_BChw.shape[2:])
    return functional.pad(x_BChw, (0, right, 0, down), mode="replicate") if down or right else x_BChw
