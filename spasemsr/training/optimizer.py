"""AdamW over what a method trains, its learning rate as a function of the step, and the moving average of weights.

Parameters are addressed by name, `<module>.<parameter>`, as they are saved; nothing here depends on their order.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spasemsr.errors import UserError
from spasemsr.training.spec import TrainSpec

BETAS = (0.9, 0.999)
EPS = 1e-8
NORMS = (nn.GroupNorm, nn.LayerNorm)


def named_parameters(modules: dict[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters that are optimized, by name: those of `trainable()` that require gradients."""
    return {
        f"{prefix}.{name}": parameter
        for prefix, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def build_optimizer(modules: dict[str, nn.Module], spec: TrainSpec) -> torch.optim.Optimizer:
    """AdamW in two groups: with weight decay, and without (biases, norm affines, layer scales: all vectors).

    Raises UserError for the 8-bit one where bitsandbytes is absent.
    """
    undecayed = {
        id(parameter)
        for module in modules.values()
        for layer in module.modules()
        for name, parameter in layer.named_parameters(recurse=False)
        if isinstance(layer, NORMS) or name == "bias" or parameter.ndim < 2
    }
    parameters = list(named_parameters(modules).values())
    groups = [
        {"params": [p for p in parameters if id(p) not in undecayed], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if id(p) in undecayed], "weight_decay": 0.0},
    ]
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr, betas=BETAS, eps=EPS, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UserError(
            "train.optimizer is adamw8bit, which bitsandbytes computes, and that package is not installed.",
            "Run: pip install bitsandbytes   (needs a GPU), or set train.optimizer: adamw and train.accumulate higher.",
        ) from None
    return AdamW8bit(groups, lr=spec.lr, betas=BETAS, eps=EPS)


def learning_rate(step: int, spec: TrainSpec) -> float:
    """Linear warm-up from lr / warmup_steps at step 0, constant, and linear to lr / cooldown_steps at the last step."""
    warm, cool = (step + 1) / max(spec.warmup_steps, 1), (spec.steps - step) / max(spec.cooldown_steps, 1)
    return spec.lr * min(1.0, warm, cool)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give all groups this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


class Average:
    """Exponential moving average of the trained weights; decay 0 follows them exactly.

    Early steps use the smaller decay (1 + n) / (10 + n), so that the initial weights are forgotten in short runs too.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = parameters
        self.shadow: dict[str, Tensor] = (
            {name: parameter.detach().clone() for name, parameter in parameters.items()} if decay > 0 else {}
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step` (counted from 0)."""
        if self.shadow:
            decay = min(self.decay, (1 + step) / (10 + step))
            weights = [self.parameters[name].detach() for name in self.shadow]
            torch._foreach_lerp_(list(self.shadow.values()), weights, 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average stands in the weights' place inside; the weights are back afterwards, to the bit."""
        own = {name: self.parameters[name].detach().clone() for name in self.shadow}
        self.copy_to_parameters()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weights in own.items():
                    self.parameters[name].copy_(weights)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Put the average in the weights' place: what is saved and evaluated."""
        for name, average in self.shadow.items():
            self.parameters[name].copy_(average)
