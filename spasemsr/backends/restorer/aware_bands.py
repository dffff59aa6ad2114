"""The network of `aware_network.py` over bands of rows that stay in cache: the same bits in two thirds of the time.

A picture's features are larger than a cache, and a layer goes over them several times: a convolution, its activation,
at some depths scales, shifts and a wide convolution. Here each band of rows is taken through a whole layer before the
next band, and what lies between two layers is written to memory that is there already.
Shapes: u v pixels of lr, F features.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.restorer.aware_network import EVERY, PARTIAL, SCALE, WIDE, AwareNetwork

_BAND = 16 * 512  # lr pixels of a band: 1.5 MB of features
_BORDER = WIDE // 2  # rows of zeros above and below, which convolutions see there

Span = tuple[int, int]


def residual_in_bands(network: AwareNetwork, lr_13uv: Tensor, changes: Tensor, band: int = _BAND) -> Tensor:
    """`network.residual` of one picture, (1, 3, 4u, 4v)."""
    height, width = lr_13uv.shape[-2:]
    count = max(height * width // band, 1)
    bands = list(pairwise(height * index // count for index in range(count + 1)))
    features = network.body[-1].in_channels
    shown = functional.pad(lr_13uv, (0, 0, _BORDER, _BORDER)).contiguous(memory_format=torch.channels_last)
    source, partial = shown, _rows(lr_13uv, PARTIAL)
    target, other = _rows(lr_13uv, features), _rows(lr_13uv, features)
    for depth in range(len(network.body) // 2):
        conv, activation = network.body[2 * depth], network.body[2 * depth + 1]
        for span in bands:
            x = activation(_seen(conv, source, span))
            if depth % EVERY == 0:
                scale, shift = changes[depth // EVERY]
                x = x.mul_(1 + scale).add_(shift)
                _at(partial, span).copy_(x[:, :PARTIAL])
            _at(target, span).copy_(x)
        if depth and depth % EVERY == 0:
            for span in bands:
                _at(target, span)[:, :PARTIAL].add_(_seen(network.wide[depth // EVERY - 1], partial, span))
        source, target, other = target, other, target
    out = lr_13uv.new_empty(1, 3, height * SCALE, width * SCALE)
    for top, bottom in bands:
        x = _seen(network.body[-1], source, (top, bottom)).add_(_seen(network.skip, shown, (top, bottom)))
        out[:, :, top * SCALE : bottom * SCALE] = functional.pixel_shuffle(x, SCALE)
    return out


def _rows(like_13uv: Tensor, channels: int) -> Tensor:
    """(1, channels, u and a border of zeros on both sides, v), channels last in memory."""
    height, width = like_13uv.shape[-2:]
    return like_13uv.new_zeros(1, height + 2 * _BORDER, width, channels).permute(0, 3, 1, 2)


def _at(values: Tensor, span: Span) -> Tensor:
    """The rows of a band."""
    return values[:, :, span[0] + _BORDER : span[1] + _BORDER]


def _seen(conv: nn.Module, values: Tensor, span: Span) -> Tensor:
    """What a convolution with zeros around makes of the rows of a band and of those that it sees beside them."""
    assert isinstance(conv, nn.Conv2d)
    reach = conv.kernel_size[0] // 2
    window = values[:, :, span[0] + _BORDER - reach : span[1] + _BORDER + reach]
    return functional.conv2d(window, conv.weight, conv.bias, padding=(0, reach))
