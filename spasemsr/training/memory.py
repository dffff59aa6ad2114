"""What a training run holds in memory whatever its batch, and the message when memory runs out.

Exact from the parameters: weights, gradients, the optimizer's moments and the moving average. What the activations of
a micro-batch take comes on top.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spasemsr.errors import UserError
from spasemsr.training.spec import TrainSpec

if TYPE_CHECKING:
    from torch import nn

_MOMENTS = {"adamw": 8, "adamw8bit": 2}  # bytes per trained parameter; bitsandbytes keeps small tensors in 32 bits


@dataclass(frozen=True)
class StateBytes:
    """Bytes by what they hold. What processes exchange are the gradients themselves, in no copy."""

    frozen: int
    weights: int
    gradients: int
    moments: int
    average: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.frozen + self.weights + self.gradients + self.moments + self.average


def state_bytes(model: "nn.Module", trainable: "dict[str, nn.Module]", spec: TrainSpec) -> StateBytes:
    """Of one process; the model may be on the meta device. Trained weights are float32 in every precision."""
    from spasemsr.training.optimizer import named_parameters

    trained = list(named_parameters(trainable).values())
    ids, numbers = {id(parameter) for parameter in trained}, sum(parameter.numel() for parameter in trained)
    others = [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in ids]
    return StateBytes(
        frozen=sum(tensor.numel() * tensor.element_size() for tensor in others),
        weights=4 * numbers,
        gradients=4 * numbers,
        moments=_MOMENTS[spec.optimizer] * numbers,
        average=4 * numbers if spec.ema_decay > 0 else 0,
    )


def smaller_settings(spec: TrainSpec, samples: int, smaller: str = "") -> list[str]:
    """What to set in params.yaml so that less memory is needed, cheapest first; `samples` are a micro-batch's now.

    `smaller` is what makes the method's own network smaller, if there is such a thing.
    """
    settings = []
    if samples > 1:
        factor = next(n for n in range(2, samples + 1) if samples % n == 0)
        settings.append(f"train.accumulate: {spec.accumulate * factor} (micro-batches of {samples // factor})")
    if not spec.gradient_checkpointing:
        settings.append("train.gradient_checkpointing: true (activations of one position at a time)")
    if spec.optimizer != "adamw8bit":
        settings.append("train.optimizer: adamw8bit (6 bytes less per trained parameter)")
    return [*settings, *([smaller] if smaller else [])]


@contextmanager
def explained(where: str, held: StateBytes, spec: TrainSpec, samples: int, smaller: str = "") -> Iterator[None]:
    """Memory that runs out inside becomes a UserError that says what is held and which settings need less."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise UserError(
            f"train: memory ran out {where}, in a micro-batch of {samples} samples: weights, gradients and optimizer "
            f"alone hold {held.total / 1e9:.1f} GB{_limit()}.",
            "Set in params.yaml, one after the other until it fits: "
            + "; ".join(smaller_settings(spec, samples, smaller)),
        ) from error


def _limit() -> str:
    import torch

    if not torch.cuda.is_available():
        return ""
    return f" of the GPU's {torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 1e9:.0f} GB"
