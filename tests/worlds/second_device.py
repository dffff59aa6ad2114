"""A second device without hardware: tensors that say they lie elsewhere and hold real numbers, and refuse to be mixed.

torch's "meta" stands for any accelerator, since no driver is started for it. Inside `second_device()` moving a tensor
or module there, or making a tensor there, gives a `There`; an operation that mixes it with a tensor left on the CPU
raises as a GPU would, by name of the operation. Numbers of no dimension may be anywhere, as with a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_AUTOCAST, _TENSOR = torch.autocast, torch.tensor


class There(torch.Tensor):
    """A tensor that lies on the second device; `held` are its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, requires_grad=held.requires_grad, device=DEVICE,
        )  # fmt: skip
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the numbers; results lie where the operands do, or where the operation was told to put them."""
    leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    theirs = [leaf for leaf in leaves if isinstance(leaf, There)]
    target = kwargs.get("device")
    there = target.type == DEVICE.type if target is not None else bool(theirs)
    moving = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    left = [leaf for leaf in leaves if not isinstance(leaf, There) and leaf.dim() > 0]
    if theirs and left and not moving:
        raise RuntimeError(f"{func}: a tensor of shape {tuple(left[0].shape)} was left on the CPU")
    plain = kwargs if target is None else {**kwargs, "device": torch.device("cpu")}
    held_args, held_kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, There) else leaf, (args, plain))
    result = func(*held_args, **held_kwargs)
    if moving and func is torch.ops.aten.copy_.default:
        return args[0]
    if func._schema.name.endswith("_") and theirs and isinstance(args[0], There):
        return args[0]  # in place
    return tree_map(lambda leaf: There(leaf) if there and isinstance(leaf, torch.Tensor) else leaf, result)


class _Factories(TorchDispatchMode):
    """Makes what is made there, and moves what is moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:  # inference mode hands over operations that consist of others, such as `to`
            parts = func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {}) if parts is NotImplemented else parts


def _autocast(device_type: str, *arguments: Any, **keywords: Any) -> Any:
    """torch knows no autocast for the stand-in; there it computes as it is."""
    return nullcontext() if device_type == DEVICE.type else _AUTOCAST(device_type, *arguments, **keywords)


def _tensor(values: Any, *, device: Any = None, **keywords: Any) -> torch.Tensor:
    """torch.tensor reads numbers without asking a mode, so they are moved afterwards."""
    made = _TENSOR(values, **keywords)
    return made if device is None else made.to(device)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """The device, for as long as the block lasts."""
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.autocast, torch.tensor = _autocast, _tensor
    try:
        with _Factories():
            yield DEVICE
    finally:
        torch.autocast, torch.tensor = _AUTOCAST, _TENSOR
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
