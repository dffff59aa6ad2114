"""All randomness of a method: streams named by seed, purpose, step and key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spasemsr import randomness

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """All randomness of one step: one stream per purpose and key, the same for any batch, rank or world size."""

    seed: int
    step: int

    def gaussian(self, purpose: str, keys: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Standard normal, (len(keys), *shape) float32 on the CPU."""
        return randomness.gaussian(self.seed, purpose, self.step, keys, shape)

    def uniform(self, purpose: str, keys: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Uniform in [0, 1), (len(keys), *shape) float64 on the CPU."""
        import torch

        draws = randomness.uniform(self.seed, purpose, self.step, keys, math.prod(shape))
        return torch.from_numpy(draws).reshape(len(keys), *shape)

    def timesteps(self, keys: Sequence[str], count: int) -> Tensor:
        """Uniform on {0, ..., count - 1}, (len(keys),) int64."""
        import torch

        draws = randomness.uniform(self.seed, "timesteps", self.step, keys)[:, 0]
        return torch.from_numpy(np.floor(draws * count).astype(np.int64))

    def drop(self, purpose: str, keys: Sequence[str], probabilities: Sequence[float]) -> np.ndarray:
        """True with each probability, (len(keys), len(probabilities)) bool, drawn in order from one stream per key."""
        draws = randomness.uniform(self.seed, purpose, self.step, keys, len(probabilities))
        return draws < np.asarray(probabilities)
