"""Projection heads and the semantic degradation loss (eq. 8, 9).

B batch, i = 0..12 the ControlNet outputs, C_i their channels, h w the latent's size.

The hybrid features of layer i are r_i, what the ControlNet adds to the UNet (with `hyb_tap: hidden` the state h_i
before its zero conv): the first half of the channels is x_img^i, held to the VAE latent of hr, the second half x_sem^i,
held to SAM's features of hr. Heads exist in training only. Time weighting, lambda_ControlNet and the choice of
references are the method's business.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spasemsr.methods.protocol import Addition


class Heads(Addition, nn.ModuleList):
    """One 3x3 conv per layer, from half of its channels; weights that were trained without them load."""

    def __init__(self, layer_channels: Sequence[int], out: int) -> None:
        super().__init__(nn.Conv2d(channels // 2, out, 3, padding=1) for channels in layer_channels)

    def silence(self) -> None:
        """Nothing to set: no result is made of what heads compute, and as they were drawn they can learn."""


class ConstraintHeads(nn.Module):
    """P_img^i (C_i/2 -> latent channels) and P_sem^i (C_i/2 -> feature channels), 3x3 convs; a half can be absent."""

    def __init__(
        self, layer_channels: Sequence[int], latent_channels: int, feature_channels: int, img: bool, sem: bool
    ) -> None:
        super().__init__()
        self.img = Heads(layer_channels, latent_channels) if img else None
        self.sem = Heads(layer_channels, feature_channels) if sem else None


def reference_at(reference_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """A reference averaged over the cells of a coarser grid (h_i, w_i); exact block means for integer strides."""
    return F.adaptive_avg_pool2d(reference_BChw, tuple(size))


def readings(
    residuals: Sequence[Tensor], latents_ref_BChw: Tensor, features_ref_BChw: Tensor | None, heads: ConstraintHeads
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """What the heads read off each layer and the reference of each, {"img": 13 pairs, "sem": 13 pairs}, float32.

    `latents_ref` is the scaled VAE posterior mean of hr, `features_ref` its SAM features, both (B, ., h, w); a pair is
    (B, ., h_i, w_i) twice. A half whose heads are absent is absent, and needs no reference.
    """
    parts = {"img": (0, heads.img, latents_ref_BChw), "sem": (1, heads.sem, features_ref_BChw)}
    found = {}
    for name, (half, convs, reference) in parts.items():
        if convs is None:
            continue
        assert reference is not None, "the semantic half needs features of hr"
        found[name] = [
            (conv(residual.chunk(2, dim=1)[half]).float(), reference_at(reference.float(), residual.shape[2:]))
            for residual, conv in zip(residuals, convs, strict=True)
        ]
    return found


def layer_distances(
    residuals: Sequence[Tensor], latents_ref_BChw: Tensor, features_ref_BChw: Tensor, heads: ConstraintHeads
) -> dict[str, Tensor]:
    """The terms of eq. 9 before weighting, {"img": (13,), "sem": (13,)}: mean |P^i(x^i) - ref_i|.

    Means are over B, channels and pixels. References and absent halves are those of `readings`.
    """
    found = readings(residuals, latents_ref_BChw, features_ref_BChw, heads)
    return {name: torch.stack([(read - ref).abs().mean() for read, ref in pairs]) for name, pairs in found.items()}


def weighted(distances: dict[str, Tensor], lambda_: float) -> dict[str, Tensor]:
    """Eq. 9 from its terms: {"img": (1 - lambda) sum_i, "sem": lambda sum_i}; an absent half rescales nothing."""
    weights = {"img": 1.0 - lambda_, "sem": lambda_}
    return {name: weights[name] * terms.sum() for name, terms in distances.items()}


def semantic_degradation_loss(
    residuals: Sequence[Tensor],
    latents_ref_BChw: Tensor,
    features_ref_BChw: Tensor,
    heads: ConstraintHeads,
    lambda_: float,
) -> dict[str, Tensor]:
    """L_SemDeg of eq. 9 in its two weighted halves, "img" and "sem", scalars; their sum is the loss.

    For the value of every layer, call `layer_distances` and then `weighted`.
    """
    return weighted(layer_distances(residuals, latents_ref_BChw, features_ref_BChw, heads), lambda_)
