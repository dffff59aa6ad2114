"""What trainer and evaluator know of a method: four calls, a source of randomness, and `build_method`.

A method is an `nn.Module`. Each arm of `build_method` imports its own file only, so the code a stage depends on is
the code of its method. Shapes: B batch, H W pixels of the output, h w pixels of lr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spasemsr import randomness

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.config import SampleSpec
    from spasemsr.data.dataset import Batch
    from spasemsr.model_specs import ModelSpec


@dataclass(frozen=True)
class Noise:
    """All randomness of one step: one stream per purpose and key, the same for any batch, rank or world size."""

    seed: int
    step: int

    def gaussian(self, purpose: str, keys: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Standard normal, (len(keys), *shape) float32 on the CPU."""
        return randomness.gaussian(self.seed, purpose, self.step, keys, shape)

    def timesteps(self, keys: Sequence[str], count: int) -> Tensor:
        """Uniform on {0, ..., count - 1}, (len(keys),) int64."""
        draws = randomness.uniform(self.seed, "timesteps", self.step, keys)[:, 0]
        return torch.from_numpy(np.floor(draws * count).astype(np.int64))

    def drop(self, purpose: str, keys: Sequence[str], probabilities: Sequence[float]) -> np.ndarray:
        """True with each probability, (len(keys), len(probabilities)) bool, drawn in order from one stream per key."""
        draws = randomness.uniform(self.seed, purpose, self.step, keys, len(probabilities))
        return draws < np.asarray(probabilities)


class Method(Protocol):
    """A super-resolution method; in fact an `nn.Module` with these members."""

    columns: frozenset[str]  # what training joins
    restore_columns: frozenset[str]  # what `restore` reads of a sample

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Named scalar losses with their weights applied; the trainer minimises their sum."""
        ...

    def restore(self, batch: Batch, noise: Noise) -> Tensor:
        """lr (B, 3, h, w) -> (B, 3, H, W) in [0, 1]."""
        ...

    def set_engine(self, *, checkpointing: bool, compiled: bool) -> None:
        """How the network computes in training: activations again in backward, compiled; never what."""
        ...

    def trainable(self) -> dict[str, nn.Module]:
        """What is optimized and saved, under stable names; empty for a baseline."""
        ...


def build_method(
    name: str,
    spec: ModelSpec,
    sample: SampleSpec,
    *,
    scale: int,
    seed: int,
    lambda_: float,
    controlnet_weight: float,
    autoencoder: Autoencoder,
    text_encoder: TextEncoder,
    feature_channels: int,
) -> Method:
    """The method of this name with freshly drawn weights: a function of `seed`, not of what was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.derive_seed(seed, "weights", name))
        match name:
            case "spasemsr":
                from spasemsr.methods.spasemsr import SpaSemSR

                return SpaSemSR(
                    spec,
                    sample,
                    scale=scale,
                    lambda_=lambda_,
                    controlnet_weight=controlnet_weight,
                    autoencoder=autoencoder,
                    text_encoder=text_encoder,
                    feature_channels=feature_channels,
                )
    raise ValueError(f"no method {name!r}")
