"""What trainer and evaluator know of a method: four calls, and `build_method`.

A method is an `nn.Module`. Shapes: B batch, H W pixels of the output, h w pixels of lr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from spasemsr import randomness

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.methods.spasemsr.spec import ModelSpec
from spasemsr.methods.noise import Noise


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
                from spasemsr.methods.spasemsr.method import SpaSemSR

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
