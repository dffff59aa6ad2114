"""Students of transformers' networks as checkpoints that transformers reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from spasemsr.weights.tensors import disk_errors


def write_pretrained(network: Any, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """`config.json` and `model.safetensors`; `state` are the tensors where the network's own are not in its layout.

    Raises OSError where they cannot be written.
    """
    tensors = network.state_dict() if state is None else state
    with disk_errors(folder):
        network.save_pretrained(folder, state_dict={name: tensor.contiguous() for name, tensor in tensors.items()})
