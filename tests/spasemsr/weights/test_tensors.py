"""Tensor files as they are written."""

import errno

import pytest
import torch
from safetensors import SafetensorError

from spasemsr.students.writing import write_pretrained
from spasemsr.weights.tensors import save_tensors


def test_weights_that_cannot_be_written_are_an_error_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*weights\.safetensors'"):
        save_tensors(tmp_path / "nowhere" / "weights.safetensors", {"a": torch.zeros(1)})


class Full:
    """A network of transformers on a full disk, of which safetensors speaks like this."""

    def state_dict(self):
        return {}

    def save_pretrained(self, folder, state_dict):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_a_student_that_does_not_fit_on_the_disk_is_an_error_of_the_disk(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)) as error:
        write_pretrained(Full(), tmp_path)
    assert error.value.errno == errno.ENOSPC
