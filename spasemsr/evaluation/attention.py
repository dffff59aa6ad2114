"""How strongly cells attend to the words of an object inside its box, over outside: layer by layer, while restoring.

Words that know their place have a ratio well above one; at one, a box says nothing to the layer. Attentions are watched
from outside: what enters them is kept, and their weights are computed again from it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spasemsr.data.dataset import Batch, Objects
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.methods.latent import MULTIPLE
from spasemsr.methods.noise import Noise
from spasemsr.methods.protocol import Method

Ratios = dict[str, float]  # by layer
_HALF = 0.5  # a cell is inside a box that covers more of it, outside one that covers less


def attention_ratios(method: Method, batches: Sequence[Batch], scale: int, seed: int, sampling: SampleSpec) -> Ratios:
    """By layer, the mean over pictures of what `watched` finds; empty for a method without attention to objects.

    Batches of one. Every picture is restored in one tile, since each of several would have boxes of its own.
    """
    found: dict[str, list[float]] = {}
    device = next((parameter.device for parameter in method.parameters()), torch.device("cpu"))
    for batch in batches if method.attentions() else ():
        height, width = batch.lr.shape[-2:]
        padded = [-(-side * scale // MULTIPLE) * MULTIPLE for side in (height, width)]
        shown = np.array([width * scale / padded[1], height * scale / padded[0]] * 2, np.float32)
        objects = method.selected(*batch.objects)
        objects = replace(objects, boxes=objects.boxes * shown)  # shares of the padded picture
        cells = padded[0] // method.grid.cell, padded[1] // method.grid.cell
        one_step = sampling.model_copy(update={"steps": 1, "guidance": 1.0, "tile": max(sampling.tile, *cells)})
        with watched(method.attentions(), method.object_rows, objects, cells) as ratios, torch.inference_mode():
            method.restore(batch.to(device), Noise(seed, 0), one_step)
        for name, ratio in ratios.items():
            found.setdefault(name, []).append(ratio)
    return {name: float(np.mean(values)) for name, values in found.items()}


@contextmanager
def watched(
    attentions: Mapping[str, nn.Module], rows: int, objects: Objects, cells: tuple[int, int]
) -> Iterator[Ratios]:
    """Within it, every call of these attentions is measured; the dict it gives is filled when it ends.

    `attentions` are diffusers' Attention modules by layer, whose keys are `rows` rows for the null object and as many
    for each of `objects`, of one picture of `cells` latent cells (height, width). Calls of other sizes are passed over.
    """
    found: dict[str, list[float]] = {name: [] for name in attentions}
    ratios: Ratios = {}
    hooks = [
        attention.register_forward_pre_hook(
            partial(_measure, into=found[name], rows=rows, objects=objects, cells=cells), with_kwargs=True
        )
        for name, attention in attentions.items()
    ]
    try:
        yield ratios
    finally:
        for hook in hooks:
            hook.remove()
        ratios.update({name: float(np.mean(values)) for name, values in found.items() if values})


def _measure(
    attention: Any,
    args: tuple[Any, ...],
    given: dict[str, Any],
    into: list[float],
    rows: int,
    objects: Objects,
    cells: tuple[int, int],
) -> None:
    """Each object's attention inside over outside, of one call with a batch of one."""
    hidden = args[0] if args else given["hidden_states"]
    size = _grid(hidden.shape[1], cells)
    if size is None or hidden.shape[0] != 1:
        return
    weights = _weights(attention, hidden, given["encoder_hidden_states"], given.get("attention_mask"))
    for number, box in enumerate(objects.boxes, start=1):
        covered = _covered(box, size)
        within, without = covered > _HALF, covered < _HALF
        if (number + 1) * rows > weights.shape[1] or not within.any() or not without.any():
            continue
        to_object = weights[:, number * rows : (number + 1) * rows].sum(dim=1).double().numpy()
        if to_object[without].mean() > 0:
            into.append(float(to_object[within].mean() / to_object[without].mean()))


def _weights(attention: Any, hidden_1QC: Tensor, keys_1MD: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax(Q K^T / sqrt(d) + mask) of diffusers' Attention, mean over heads, (Q, M) float32."""
    heads = attention.heads
    query, key = (
        projection(states)[0].float().unflatten(-1, (heads, -1)).transpose(0, 1)
        for projection, states in ((attention.to_q, hidden_1QC), (attention.to_k, keys_1MD))
    )
    logits = attention.scale * query @ key.transpose(1, 2)
    if mask is not None:
        logits = logits + mask.float().expand(heads, -1, -1)
    return torch.softmax(logits, dim=-1).mean(dim=0).detach().cpu()


def _grid(count: int, cells: tuple[int, int]) -> tuple[int, int] | None:
    """The size of a state of so many cells: the picture's own, or halved up to three times, rounding up."""
    for halvings in range(4):
        height, width = (-(-side // 2**halvings) for side in cells)
        if height * width == count:
            return height, width
    return None


def _covered(box: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """How much of every cell a box covers, in [0, 1], flattened."""
    shares = []
    for first, last, count in ((box[1], box[3], size[0]), (box[0], box[2], size[1])):
        edges = np.arange(count + 1) / count
        shares.append(np.clip(np.minimum(last, edges[1:]) - np.maximum(first, edges[:-1]), 0, 1 / count) * count)
    return np.outer(shares[0], shares[1]).ravel()
