"""A GPU's refusals without a GPU: what it has no deterministic algorithm for raises, as `determinism.py` asks of torch.

On a CPU every operation is deterministic, so a training step that a GPU would stop at passes. Here operations are
watched by name, forward and backward; names are those of torch.use_deterministic_algorithms's own list.
"""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_WITHOUT = {  # plain bilinear resampling is absent: on a GPU torch computes it by other operations
    "aten::_adaptive_avg_pool2d_backward",
    "aten::adaptive_max_pool2d_backward",
    "aten::avg_pool3d_backward",
    "aten::grid_sampler_2d_backward",
    "aten::reflection_pad2d_backward",
    "aten::upsample_bicubic2d_backward",
    "aten::_upsample_bilinear2d_aa_backward",
    "aten::_upsample_bicubic2d_aa_backward",
}
_UNSUMMED = 0  # cross-entropy of maps is deterministic where nothing is summed


class StrictGpu(TorchDispatchMode):
    """Inside, what a GPU refuses raises RuntimeError with the operation's name."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in _WITHOUT or (name == "aten::nll_loss2d_forward" and args[3] != _UNSUMMED):
            raise RuntimeError(f"{name} does not have a deterministic implementation on a GPU")
        return func(*args, **(kwargs or {}))
