"""Losses of students, two of them DAGE's (MegaSR eq. 6): answers for lr against the teacher's for hr.

B batch, H W pixels, K classes, h w cells; features are of any shape that student and teacher share.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

EPSILON = 1e-6  # below it depths are equal; keeps the logarithm and the root's gradient finite


def silog(depth_BHW: Tensor, reference_BHW: Tensor) -> Tensor:
    """Scale-invariant log error, sqrt(mean(d^2) - mean(d)^2 / 2) with d = log depth - log reference, mean over B.

    Depths are positive; equal depths give zero exactly, with a gradient that is finite there.
    """
    difference = depth_BHW.clamp_min(EPSILON).log() - reference_BHW.clamp_min(EPSILON).log()
    mean, square = difference.flatten(1).mean(1), difference.square().flatten(1).mean(1)
    return ((square - 0.5 * mean.square() + EPSILON).sqrt() - EPSILON**0.5).mean()


def label_loss(logits_BKhw: Tensor, labels_B1hw: Tensor) -> Tensor:
    """Cross-entropy against labels in [0, K), mean over cells."""
    # Of each cell, then the mean: cross_entropy's own has no deterministic form on a GPU, and torch refuses it there.
    return functional.cross_entropy(logits_BKhw.float(), labels_B1hw[:, 0].long(), reduction="none").mean()


def depth_loss(features: Tensor, reference: Tensor, depth_BHW: Tensor, target_BHW: Tensor, gamma: float) -> Tensor:
    """Eq. 6, for depth: L1 of features plus gamma times SILog."""
    return functional.l1_loss(features, reference) + gamma * silog(depth_BHW, target_BHW)


def embedding_loss(
    final: Tensor, reference: Tensor, blocks: Sequence[Tensor], block_references: Sequence[Tensor]
) -> Tensor:
    """Eq. 6, for CLIP's image encoder: L1 of the final embedding plus the sum of L1 over its transformer blocks."""
    inner = [functional.l1_loss(ours, theirs) for ours, theirs in zip(blocks, block_references, strict=True)]
    return functional.l1_loss(final, reference) + sum(inner)
