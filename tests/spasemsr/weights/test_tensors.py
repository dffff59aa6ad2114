"""Tensor files as they are written."""

import pytest
import torch

from spasemsr.weights.tensors import save_tensors


def test_weights_that_cannot_be_written_are_an_error_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*weights\.safetensors'"):
        save_tensors(tmp_path / "nowhere" / "weights.safetensors", {"a": torch.zeros(1)})
