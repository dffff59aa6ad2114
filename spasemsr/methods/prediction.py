"""What a call of a latent method's network gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Carry = Mapping[str, Tensor]  # what runs beside the latents, by name: (B, any, h, w), on the latents' grid


@dataclass(frozen=True)
class Prediction:
    """A call of the network: `sample` (B, C, h, w), the state it predicts, and what `side_losses` needs."""

    sample: Tensor
    carry: Carry = field(default_factory=dict)
    aux: Any = None
