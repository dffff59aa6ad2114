"""What every network here shares: where it runs, in which precision, and that overflow never becomes data.

Networks other than LLaVA and CLIP keep float32 weights and compute in the chosen precision under autocast, so that a
sample whose result is not finite can be computed again in float32, alone: what it gets depends on no other sample.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger(__name__)


DEVICE = "SPASEMSR_DEVICE"


def choose_device(device: str) -> "torch.device":
    """A torch device by name. "any" is a GPU where there is one, "auto" a GPU; SPASEMSR_DEVICE decides for both.

    Raises UserError where "auto" finds no GPU it can use: the paper's models would take hours a picture on a CPU, and
    who waits for them should have asked for that.
    """
    import torch

    named = os.environ.get(DEVICE) if device in ("auto", "any") else device
    if named:
        return torch.device(named)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if device == "any":
        return torch.device("cpu")
    kinds = ", ".join(arch.removeprefix("sm_") for arch in torch.cuda.get_arch_list()) or "none"
    raise UserError(
        f"This model needs a GPU, and torch {torch.__version__} can use none here.",
        f"Look at nvidia-smi: the driver must support CUDA {torch.version.cuda}, and the GPU have a compute capability "
        f"that this build knows ({kinds}). To wait for a CPU instead, set {DEVICE}=cpu.",
    )


def dtype_of(precision: str) -> "torch.dtype":
    """The torch type of a precision in `params.yaml`."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(device: "torch.device", precision: str) -> contextlib.AbstractContextManager[Any]:
    """Matrix products and convolutions in this precision; nothing for fp32."""
    import torch

    return torch.autocast(device.type, dtype_of(precision)) if precision != "fp32" else contextlib.nullcontext()


def compute(
    network: "Callable[[Tensor], Tensor]", inputs: "Tensor", device: "torch.device", precision: str, name: str
) -> "Tensor":
    """Run a network on (B, ...) and return float32 (B, ...); a sample that overflowed is run again alone in float32.

    Raises FloatingPointError if it is not finite then either.
    """
    with autocast(device, precision):
        outputs = network(inputs.to(device)).float()
    finite_B = outputs.flatten(1).isfinite().all(dim=1).tolist()
    for i in (i for i, finite in enumerate(finite_B) if not finite):
        log.warning("%s: a result in %s was not finite; computed again in fp32", name, precision)
        again = network(inputs[i : i + 1].to(device)).float()
        if not bool(again.isfinite().all()):
            raise FloatingPointError(f"{name}: the result is not finite, in fp32 either")
        outputs[i] = again[0]
    return outputs


def pixels_of(images: Sequence[ImageU8], device: "torch.device | None" = None) -> "Tensor":
    """(H, W, 3) u8 images of one size -> (B, 3, H, W) float32 in [0, 255]."""
    import torch

    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device).float()


def by_size(images: Sequence[ImageU8]) -> list[list[int]]:
    """Indices of images of equal size, so that each group can be one batch."""
    order = sorted(range(len(images)), key=lambda i: images[i].shape[:2])
    return [list(group) for _, group in groupby(order, key=lambda i: images[i].shape[:2])]
