"""What a person says of a place: what it is compared with, and what follows from it.

B batch, C latent channels, h w latent cells.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spasemsr.backends.extractors.texture_words import TEXTURES, sure
from spasemsr.data.dataset import Objects, new

MOST_TAKEN = 0.5  # of the detail that is there
WINDOW = 5  # cells of a side over which detail is strong or weak
SURELY = 0.07  # by which share stronger detail has to be for all of it to be added


def as_known(said: Objects, found: Objects) -> Objects:
    """The objects said, where new areas of texture are called as most of their place was called before.

    Without a "perhaps", as a person's words are. Where nothing new is an area of texture, or no area was found, what is
    said is compared with all that was found as it is.
    """
    tags, areas = list(said.tags), [index for index, tag in enumerate(found.tags) if tag in TEXTURES]
    for index in np.flatnonzero(new(said, found)):
        if tags[index] not in TEXTURES or not areas:
            return found
        covered = [_common(said.boxes[index], found.boxes[area]) for area in areas]
        tags[index] = sure(found.tags[areas[int(np.argmax(covered))]])
    return replace(said, tags=tags)


def _common(one_4: np.ndarray, other_4: np.ndarray) -> float:
    """The area that two boxes share."""
    low, high = np.maximum(one_4[:2], other_4[:2]), np.minimum(one_4[2:], other_4[2:])
    return float(np.prod(np.maximum(high - low, 0)))


def followed(
    there_BChw: Tensor, said_BChw: Tensor, known_BChw: Tensor, weights_B1hw: Tensor, detail_C11: Tensor | None
) -> Tensor:
    """The change of latents `there` that follows the words: `said` and `known` are what the network makes of both.

    Where more detail was said, `weights` times what both differ by is added. Where less, what is there is made weaker,
    as often as `weights` says by the ratio of both, but by half at most: to add what differs would not, since of many
    small differences to all sides the sum is more detail, whatever was said. `detail` is 1 in the channels of detail.
    """
    if detail_C11 is None:
        detail_C11 = torch.ones_like(there_BChw[:1, :, :1, :1])[0]
    said, known = detail_C11 * said_BChw, detail_C11 * known_BChw
    ratio_B1hw = (_strength(said) / _strength(known)).sqrt()
    weaker = (ratio_B1hw.clamp(max=1.0).pow(weights_B1hw).clamp(min=MOST_TAKEN) - 1.0) * detail_C11 * there_BChw
    added = weights_B1hw * (said - known)
    taken = torch.minimum(added.abs(), MOST_TAKEN * there_BChw.abs()) * added.sign()
    added = torch.where(added * there_BChw < 0, taken, added)  # no detail is turned over
    return weaker + ((ratio_B1hw - 1.0) / SURELY).clamp(0.0, 1.0) * added


def _strength(latents_BChw: Tensor) -> Tensor:
    """The power of what is in cells around each, (B, 1, h, w)."""
    power = (latents_BChw**2).sum(dim=1, keepdim=True)
    return functional.avg_pool2d(power, WINDOW, 1, WINDOW // 2, count_include_pad=False) + 1e-6
