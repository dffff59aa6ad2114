"""Prompts of a batch: what its tags say, in words the base denoiser's own text attention reads.

B batch, L text rows, D text width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spasemsr.backends.extractors.texture_words import TEXTURES

if TYPE_CHECKING:
    from spasemsr.backends.protocols import TextEncoder
    from spasemsr.data.dataset import Objects


def tag_prompt(objects: "Objects", words: str = "") -> str:
    """Distinct tags in score order, then `words`, joined by commas; textures say nothing without their places."""
    things = (tag for tag in dict.fromkeys(objects.tags) if tag not in TEXTURES)
    return ", ".join(filter(None, (*things, words)))


@torch.no_grad()
def encode_prompts(text_encoder: "TextEncoder", prompts: Sequence[str], device: torch.device) -> Tensor:
    """(B, L, D) on a device; equal prompts are encoded once."""
    texts = sorted(set(prompts))
    states_BLD = text_encoder.encode(texts).states_BLD
    return states_BLD[[texts.index(prompt) for prompt in prompts]].to(device)
