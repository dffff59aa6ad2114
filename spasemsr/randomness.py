"""Randomness is an argument with a name: (seed, names...) -> a seed, a NumPy generator, per-key Gaussian noise.

A draw depends on what it is for (a purpose, a key, a step), never on the rank, the worker, the batch or the clock,
so results do not change with the number of machines and resuming needs no generator state.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.hashing import canonical_json

if TYPE_CHECKING:
    from torch import Tensor


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed from a root seed and the names of what it is for."""
    digest = hashlib.sha256(canonical_json([seed, *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator (PCG64) of its own for these names."""
    return np.random.default_rng(derive_seed(seed, *names))


def gaussian(seed: int, purpose: str, step: int, keys: Sequence[str], shape: Sequence[int]) -> "Tensor":
    """Standard normal noise, (len(keys), *shape) float32 on the CPU, each row a function of its own key alone.

    Drawn on the CPU with NumPy, so every device sees the same numbers.
    """
    import torch

    rows = [generator(seed, purpose, step, key).standard_normal(tuple(shape), dtype=np.float32) for key in keys]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty((0, *shape))


def uniform(seed: int, purpose: str, step: int, keys: Sequence[str], size: int = 1) -> np.ndarray:
    """Uniform numbers in [0, 1), (len(keys), size) float64, each row a function of its own key alone."""
    return np.stack([generator(seed, purpose, step, key).random(size) for key in keys]) if keys else np.empty((0, size))
