"""The layers of a small network on a CPU and without gradients, in fewer passes: the same numbers up to rounding.

B batch, C channels, H W the size of a state, N = H W cells, M keys, K key width, h heads.

A small network's time goes less into products than into what stands between them: states turned from channels to
tokens and back, biases that are copied before they are added to, layer norms row by row. Here states stay (B, C, N) as
convolutions leave them, every projection is a product from the left, a norm's weights are part of the projection that
follows it, and one head's logits at a time are small enough for a core's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.diffusion.attention import Cross2D, Full2D
from spasemsr.diffusion.library import Attention, ResnetBlock2D, Transformer2DModel
from spasemsr.diffusion.products import product, products

_CACHED = 1 << 19  # floats of intermediate results that a core keeps close
_BATCHED = 40_000  # logits of a head; below, all heads are computed at once, which saves calls
_SMALL = 50_000_000  # parameters
_LOG2_E = math.log2(math.e)  # e^x = 2^(x log2 e); torch takes 2^x four times as fast as e^x, for which it asks MKL
_LEAST, _MOST = 1e-30, 1e30  # sums of powers without a shift that are as exact as with one

Forward = Callable[..., Any]


class Linear(NamedTuple):
    """y = weight x + bias on (B, C_in, N): (C_out, C_in) and (C_out, 1), or None."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, layer: nn.Linear, norm: nn.LayerNorm | None = None, scale: float = 1.0) -> Linear:
        """A layer, after the scales and shifts of a norm, times a number."""
        weight, bias = layer.weight, layer.bias
        if norm is not None:
            shift = weight @ norm.bias
            weight, bias = weight * norm.weight, shift if bias is None else bias + shift
        return cls(scale * weight, None if bias is None else scale * bias[:, None])

    @classmethod
    def stacked(cls, *layers: Linear) -> Linear:
        """Several layers of one input as one."""
        biases = [layer.bias for layer in layers if layer.bias is not None]
        return cls(torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None)

    def after(self, other: Linear) -> Linear:
        """This layer on another one's output as one layer; both have biases."""
        assert self.bias is not None and other.bias is not None
        return Linear(self.weight @ other.weight, self.weight @ other.bias + self.bias)

    def __call__(self, x_BCN: Tensor) -> Tensor:
        """(B, C_in, N) -> (B, C_out, N)."""
        out = products(self.weight, x_BCN)
        return out if self.bias is None else out.add_(self.bias)

    def add_to(self, sum_BCN: Tensor, x_BCN: Tensor) -> Tensor:
        """What this makes of x is added to `sum`, in place."""
        sum_BCN.add_(products(self.weight, x_BCN))
        return sum_BCN if self.bias is None else sum_BCN.add_(self.bias)


class Attending:
    """Attention with h heads; a norm before it is part of its queries, and of its keys where they are its own."""

    def __init__(self, attention: Attention, norm: nn.LayerNorm, on_itself: bool) -> None:
        scale = _LOG2_E * (attention.to_q.out_features // attention.heads) ** -0.5
        self.heads, self.on_itself = attention.heads, on_itself
        own = norm if on_itself else None
        self._query = Linear.of(attention.to_q, norm, scale)
        self._rest = Linear.stacked(Linear.of(attention.to_k, own), Linear.of(attention.to_v, own))
        if on_itself:
            self._query = Linear.stacked(self._query, self._rest)
        self.out = Linear.of(attention.to_out[0])

    def __call__(self, normed_BCN: Tensor, kv_BKM: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """(B, C, N) before the output projection; `bias` of the logits, as in `attend`, is (B h, M, N) or less."""
        query = self._query(normed_BCN)
        if self.on_itself:
            query, key, value = query.chunk(3, dim=1)
        else:
            assert kv_BKM is not None
            key, value = self._rest(kv_BKM).chunk(2, dim=1)
        return attend(query, key, value, self.heads, bias)


def attend(
    query_BCN: Tensor, key_BCM: Tensor, value_BCM: Tensor, heads: int, bias: Tensor | None = None, shift: bool = False
) -> Tensor:
    """Attention with weights 2^logit of scaled queries, (B, C, N); `bias` is (B h, M, N) or may be expanded to it.

    Powers are taken without the usual shift by the largest logit, one pass less; where that leaves the range of
    floats, all is computed again with it (`shift`).
    """
    size, channels, cells = query_BCN.shape
    keys, depth = key_BCM.shape[2], channels // heads
    if bias is None and keys * cells > _BATCHED:
        out, sums = _head_by_head(query_BCN, key_BCM, value_BCM, heads, shift)
    else:
        query, key, value = (x.reshape(size * heads, depth, -1) for x in (query_BCN, key_BCM, value_BCM))
        key = key.transpose(1, 2)
        logits = torch.bmm(key, query) if bias is None else torch.baddbmm(bias, key, query)
        weights = (logits - logits.amax(1, keepdim=True) if shift else logits).exp2_()
        sums = weights.sum(1, keepdim=True)
        out = torch.bmm(value, weights)
    if not shift:
        least, most = sums.aminmax()
        if not (least.item() > _LEAST and most.item() < _MOST):
            return attend(query_BCN, key_BCM, value_BCM, heads, bias, shift=True)
    return out.view(size, heads, depth, cells).div_(sums.view(size, heads, 1, cells)).view(size, channels, cells)


def _head_by_head(
    query_BCN: Tensor, key_BCM: Tensor, value_BCM: Tensor, heads: int, shift: bool
) -> tuple[Tensor, Tensor]:
    """Values in sums weighted by powers, (B, C, N), and the sums of the powers, (B, h, N)."""
    size, channels, cells = query_BCN.shape
    keys, depth = key_BCM.shape[2], channels // heads
    out, sums = (
        torch.empty_like(query_BCN, memory_format=torch.contiguous_format),
        query_BCN.new_empty(size, heads, cells),
    )
    step = max(_CACHED // keys, 64)
    for sample in range(size):
        for head in range(heads):
            rows = slice(head * depth, (head + 1) * depth)
            key, value = key_BCM[sample, rows].t(), value_BCM[sample, rows]
            for first in range(0, cells, step):
                part = slice(first, min(first + step, cells))
                weights = product(key, query_BCN[sample, rows, part])
                if shift:
                    weights.sub_(weights.amax(0))
                weights.exp2_()
                torch.sum(weights, 0, out=sums[sample, head, part])
                out[sample, rows, part] = product(value, weights)
    return out, sums


class Transformer:
    """diffusers' transformer of one layer and linear projections: `Full2D`, and the attentions of SD."""

    def __init__(self, module: Transformer2DModel) -> None:
        (block,) = module.transformer_blocks
        self._norm, self._eps = module.norm, block.norm1.eps
        self._enter, self._leave = Linear.of(module.proj_in), Linear.of(module.proj_out)
        self._itself = Attending(block.attn1, block.norm1, on_itself=True)
        self._other = Attending(block.attn2, block.norm2, on_itself=False)
        both = Linear.of(block.ff.net[0].proj, block.norm3)  # GEGLU: what is gated, then the gates
        assert both.bias is not None
        self._gated, self._gates = map(Linear, both.weight.chunk(2), both.bias.chunk(2))
        self._narrow = Linear.of(block.ff.net[2])

    def __call__(self, x_BCHW: Tensor, kv_BMK: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Full2D.forward`."""
        hidden = self._enter(_normed_by_groups(self._norm, x_BCHW))
        self._itself.out.add_to(hidden, self._itself(_unit(hidden, self._eps)))
        attended = self._other(_unit(hidden, self._eps), kv_BMK.transpose(1, 2), _bias_of(mask, self._other.heads))
        self._other.out.add_to(hidden, attended)
        normed = _unit(hidden, self._eps)
        floats = self._gates.weight.shape[0] * normed.shape[2]
        for part in zip(*(x.split(max(_CACHED // floats, 1)) for x in (hidden, normed)), strict=True):
            gates = functional.gelu(self._gates(part[1]))
            self._narrow.add_to(part[0], gates.mul_(self._gated(part[1])))
        return _beside(x_BCHW, self._leave, hidden)


class Crossing:
    """`Cross2D`; its last two projections are one."""

    def __init__(self, module: Cross2D) -> None:
        self._norm, self._eps = module.norm, module.norm2.eps
        self._enter = Linear.of(module.proj_in)
        self._other = Attending(module.attn2, module.norm2, on_itself=False)
        self._leave = Linear.of(module.proj_out).after(self._other.out)

    def __call__(self, x_BCHW: Tensor, kv_BMK: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Cross2D.forward`."""
        normed = _unit(self._enter(_normed_by_groups(self._norm, x_BCHW)), self._eps)
        attended = self._other(normed, kv_BMK.transpose(1, 2), _bias_of(mask, self._other.heads))
        return _beside(x_BCHW, self._leave, attended)


def _normed_by_groups(norm: nn.GroupNorm, x_BCHW: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, N)."""
    return norm(x_BCHW).flatten(2)


def _beside(x_BCHW: Tensor, layer: Linear, hidden_BCN: Tensor) -> Tensor:
    """x and what a layer makes of the hidden states."""
    return layer(hidden_BCN).add_(x_BCHW.flatten(2)).view(x_BCHW.shape)


def _unit(x_BCN: Tensor, eps: float) -> Tensor:
    """Every cell with mean 0 and deviation 1 over channels: a layer norm without weights."""
    centred = x_BCN - x_BCN.mean(1, keepdim=True)
    return centred.mul_(centred.square().mean(1, keepdim=True).add_(eps).rsqrt_())


def _bias_of(mask: Tensor | None, heads: int) -> Tensor | None:
    """What is added to the logits (B h, M, N): diffusers' bias of a mask (B, M), or one that was given (B h, N, M)."""
    if mask is None or mask.ndim == 3:
        return None if mask is None else _LOG2_E * mask.transpose(1, 2)
    bias = (1 - mask.to(torch.float32)) * (_LOG2_E * -10000.0)
    return bias.repeat_interleave(heads, dim=0)[:, :, None]


def _of_transformer(module: Transformer2DModel) -> Forward:
    """A base's own attention, called as diffusers' class is."""
    transformer = Transformer(module)

    def forward(
        x_BCHW: Tensor, kv_BMK: Tensor, encoder_attention_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor]:
        return (transformer(x_BCHW, kv_BMK, encoder_attention_mask),)

    return forward


def _of_resnet(module: ResnetBlock2D) -> Forward:
    """diffusers' ResNet of an SD UNet: what need not be a new tensor is none."""

    def forward(x_BCHW: Tensor, temb: Tensor) -> Tensor:
        hidden = module.conv1(functional.silu(module.norm1(x_BCHW), inplace=True))
        hidden.add_(module.time_emb_proj(functional.silu(temb))[:, :, None, None])
        hidden = module.conv2(functional.silu(module.norm2(hidden), inplace=True))
        return hidden.add_(x_BCHW if module.conv_shortcut is None else module.conv_shortcut(x_BCHW))

    return forward


_FORMS: dict[type[nn.Module], Callable[[Any], Forward]] = {
    Transformer2DModel: _of_transformer,
    Full2D: Transformer,
    Cross2D: Crossing,
    ResnetBlock2D: _of_resnet,
}


@contextmanager
def lean(network: nn.Module) -> Iterator[None]:
    """Inside, the layers of a network in fp32 on a CPU compute in these forms; nobody may train or watch it then.

    A large network stays as it is: products are most of its time, and its weights would be there twice.
    """
    small = sum(parameter.numel() for parameter in network.parameters()) <= _SMALL
    replaced = [module for module in network.modules() if small and type(module) in _FORMS]
    try:
        with torch.no_grad():
            for module in replaced:
                module.forward = _FORMS[type(module)](module)
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)
