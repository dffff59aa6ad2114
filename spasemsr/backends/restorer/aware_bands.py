"""The network of `aware_network.py`, and what follows it, over bands of rows that stay in cache, in all threads.

A picture's features are larger than a cache, and a layer goes over them several times: a convolution, its activation,
at some depths scales, shifts and a wide convolution. Here each band of rows is taken through a whole layer before the
next band, and what lies between two layers is written to memory that is there already: two thirds of the time.
Shapes: u v pixels of lr, F features.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.restorer.aware_network import (
    AREA,
    EVERY,
    PARTIAL,
    SCALE,
    WIDE,
    AwareNetwork,
    drift_of,
    enlarged,
    limited,
    limits_of,
    outputs_of,
    pattern_of,
)
from spasemsr.determinism import torch_threads
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels

_BAND = 16 * 512  # lr pixels of a band: 1.5 MB of features
_AREAS = 64  # rows of lr whose areas are averaged at a time
_CUBIC = 2  # rows of lr above and below that bicubic looks at
_BORDER = WIDE // 2  # rows of zeros above and below, which convolutions see there

Span = tuple[int, int]


def residual_in_bands(network: AwareNetwork, lr_13uv: Tensor, changes: Tensor, band: int = _BAND) -> Tensor:
    """`network.residual` of one picture, (1, 3, 4u, 4v), with the bits of one pass in one thread.

    One pass in several threads may differ from that in the last bit: where a picture is too small to share its pixels
    among them, some CPUs share out the terms of a sum.
    """
    height, width = lr_13uv.shape[-2:]
    bands = _bands(height, height * width // band)
    features = network.body[-1].in_channels
    shown = functional.pad(lr_13uv, (0, 0, _BORDER, _BORDER)).contiguous(memory_format=torch.channels_last)
    source, first = shown, _rows(lr_13uv, PARTIAL)
    target, other = _rows(lr_13uv, features), _rows(lr_13uv, features)
    out = lr_13uv.new_empty(1, 3, height * SCALE, width * SCALE)
    with _side_by_side() as for_each:
        for depth in range(len(network.body) // 2):
            for_each(partial(_layer, network, depth, changes, source, target, first), bands)
            if depth and depth % EVERY == 0:
                for_each(partial(_widened, network.wide[depth // EVERY - 1], first, target), bands)
            source, target, other = target, other, target
        for_each(partial(_last, network, source, shown, out), bands)
    return out


def pixels_in_bands(residual_13HW: Tensor, lr_13uv: Tensor, without_grid: bool, band: int = _BAND) -> ImageU8:
    """lr by bicubic and the anchored residual, less its grid if so wanted, (4u, 4v, 3). The residual is overwritten.

    What is as large as the result is gone over twice: before the means over areas and after.
    """
    height, width = lr_13uv.shape[-2:]
    bands, areas = _bands(height, height * width // band), _bands(height, height // _AREAS)
    lr_13uv = lr_13uv.contiguous()  # bicubic takes planes in two thirds of the time
    limits, low = limits_of(lr_13uv), torch.empty_like(lr_13uv)
    outputs = lr_13uv.new_empty(1, SCALE**2, height, width) if without_grid else None
    drift, pattern = torch.empty_like(low), None if outputs is None else torch.empty_like(outputs)
    restored = np.empty((height * SCALE, width * SCALE, 3), np.uint8)

    def before(span: Span) -> None:
        part = _of(residual_13HW, span, SCALE)
        if outputs is not None:
            _of(outputs, span).copy_(outputs_of(part))
        part.copy_(limited(part, _of(limits, span)))
        _of(low, span).copy_(functional.avg_pool2d(part, SCALE))

    def averaged(span: Span) -> None:
        seen, inner = _around(span, AREA // 2, height)
        _of(drift, span).copy_(_of(drift_of(_of(low, seen), _of(lr_13uv, seen)), inner))
        if outputs is not None and pattern is not None:
            _of(pattern, span).copy_(_of(pattern_of(_of(outputs, seen)), inner))

    def after(span: Span) -> None:
        seen, inner = _around(span, _CUBIC, height)
        large = bicubic_upsample(_of(lr_13uv, seen), SCALE).sub_(enlarged(_of(drift, seen)))
        part = _of(large, inner, SCALE).add_(_of(residual_13HW, span, SCALE))
        if pattern is not None:
            part -= functional.pixel_shuffle(_of(pattern, span), SCALE)
        restored[span[0] * SCALE : span[1] * SCALE] = to_pixels(part)[0]

    with _side_by_side() as for_each:
        for_each(before, bands)
        for_each(averaged, areas)
        for_each(after, bands)
    return restored


def _bands(height: int, count: int) -> list[Span]:
    """About so many bands of rows, none without a row."""
    count = min(max(count, 1), height)
    return list(pairwise(height * index // count for index in range(count + 1)))


def _around(span: Span, reach: int, height: int) -> tuple[Span, Span]:
    """A band with so many rows above and below, as far as there are some, and where in it the band lies."""
    first, last = max(span[0] - reach, 0), min(span[1] + reach, height)
    return (first, last), (span[0] - first, span[1] - first)


def _of(values: Tensor, span: Span, each: int = 1) -> Tensor:
    """The rows of a band, `each` for one of lr."""
    return values[:, :, span[0] * each : span[1] * each]


def _layer(
    network: AwareNetwork, depth: int, changes: Tensor, source: Tensor, target: Tensor, first: Tensor, span: Span
) -> None:
    """One convolution with its activation and modulation; where it has one, `first` gets the first channels as well."""
    x = network.body[2 * depth + 1](_seen(network.body[2 * depth], source, span))
    if depth % EVERY == 0:
        scale, shift = changes[depth // EVERY]
        x = x.mul_(1 + scale).add_(shift)
        _at(first, span).copy_(x[:, :PARTIAL])
    _at(target, span).copy_(x)


def _widened(wide: nn.Module, first: Tensor, target: Tensor, span: Span) -> None:
    _at(target, span)[:, :PARTIAL].add_(_seen(wide, first, span))


def _last(network: AwareNetwork, source: Tensor, shown: Tensor, out: Tensor, span: Span) -> None:
    x = _seen(network.body[-1], source, span).add_(_seen(network.skip, shown, span))
    _of(out, span, SCALE).copy_(functional.pixel_shuffle(x, SCALE))


@contextmanager
def _side_by_side() -> Iterator[Callable[[Callable[[Span], None], list[Span]], object]]:
    """What runs a function for every band: in as many threads as torch has, each of which computes alone.

    Threads within an operation would wait for each other after every one, and while they wait they take a core's time.
    """

    def alone(work: Callable[[Span], None]) -> Callable[[Span], None]:
        def one(span: Span) -> None:
            with torch.inference_mode():  # a thread has its own
                work(span)

        return one

    if (threads := torch.get_num_threads()) == 1:
        yield lambda work, bands: deque(map(alone(work), bands), maxlen=0)
        return
    # What a thread sets for itself, later threads of the process begin with: afterwards that is `threads` again.
    with torch_threads(threads), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield lambda work, bands: deque(pool.map(alone(work), bands), maxlen=0)


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
