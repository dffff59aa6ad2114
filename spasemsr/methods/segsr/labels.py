"""The diffusion of label maps (DDPS; SegSR sec. 3.3): uniform transitions, on the clock of the image's diffusion.

B batch, K classes, h w latent cells, tau = 0..T_seg-1 the noise level of labels, t = 0..T-1 that of the image.

q(s_tau | s_0) = Cat(abar_tau onehot(s_0) + (1 - abar_tau) / K): a cell keeps its label with probability abar_tau, and
else takes any label. Labels are int64 (B, h, w); K itself stands for "unknown", a cell nobody labelled.
"""

import torch
from torch import Tensor
from torch.nn import functional

FIRST, LAST = 0.99999, 9e-6  # abar at tau = 0 and at the last tau


def keep_probabilities(steps: int) -> Tensor:
    """abar_tau, (T_seg,) float64, linear."""
    return torch.linspace(FIRST, LAST, steps, dtype=torch.float64)


def label_time(timesteps_B: Tensor, image_steps: int, label_steps: int) -> Tensor:
    """tau = round(t (T_seg - 1) / (T - 1)): both diffusions are as far at the same moment."""
    return torch.round(timesteps_B.double() * (label_steps - 1) / (image_steps - 1)).long()


def probabilities(labels_Bhw: Tensor, keep_B: Tensor, classes: int) -> Tensor:
    """q(s_tau | s_0), (B, K, h, w) float64, rows over K sum to one; an unknown cell may be any class."""
    known_Bhw = labels_Bhw < classes
    onehot_BhwK = functional.one_hot(labels_Bhw.clamp(max=classes - 1), classes)
    keep_Bhw1 = (keep_B.double().view(-1, 1, 1) * known_Bhw).unsqueeze(-1)
    return (keep_Bhw1 * onehot_BhwK + (1.0 - keep_Bhw1) / classes).permute(0, 3, 1, 2)


def draw(labels_Bhw: Tensor, keep_B: Tensor, classes: int, uniform_Bhw: Tensor) -> Tensor:
    """s_tau ~ q(. | s_0), (B, h, w) int64, from uniform numbers in [0, 1) of double precision, one a cell.

    Below abar_tau the label stays; what is above, stretched to [0, 1) again, chooses among all K classes.
    """
    keep_Bhw = keep_B.double().view(-1, 1, 1) * (labels_Bhw < classes)
    other = ((uniform_Bhw - keep_Bhw) / (1.0 - keep_Bhw) * classes).floor().long().clamp(0, classes - 1)
    return torch.where(uniform_Bhw < keep_Bhw, labels_Bhw, other)


def as_carry(labels_Bhw: Tensor, classes: int) -> Tensor:
    """Labels as (B, K, h, w) float32, 1 at a cell's own class: what tiles can crop and average."""
    return functional.one_hot(labels_Bhw, classes).permute(0, 3, 1, 2).float()


def label_loss(logits_BKhw: Tensor, labels_Bhw: Tensor) -> Tensor:
    """Cross-entropy of the predicted s_0, mean over known cells; zero, with a gradient, where none is known."""
    classes = logits_BKhw.shape[1]
    # Of each cell, then summed: cross_entropy's own sum has no deterministic form on a GPU, and torch refuses it there.
    each_Bhw = functional.cross_entropy(logits_BKhw.float(), labels_Bhw, ignore_index=classes, reduction="none")
    return each_Bhw.sum() / (labels_Bhw != classes).sum().clamp_min(1)
