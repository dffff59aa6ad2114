"""Weights in eight bits a number."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spasemsr.weights.eight_bits import packed, unpacked
from spasemsr.weights.tensors import read_state_dict, save_tensors


@given(
    seed=st.integers(0, 1000), spread=st.floats(1e-6, 1e3), shape=st.sampled_from([(3, 4), (5, 2, 3, 3), (1, 1), (7,)])
)
def test_numbers_are_off_by_half_of_their_channels_step_at_most(seed, spread, shape):
    value = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread
    made = unpacked(packed({"layer": value}))
    assert list(made) == ["layer"] and made["layer"].dtype == (torch.float16 if value.ndim < 2 else torch.float32)
    steps = value.abs().amax(tuple(range(1, value.ndim)), keepdim=True) / 127 if value.ndim > 1 else value.abs() / 1024
    assert ((made["layer"] - value).abs() <= 0.5001 * steps + 1e-7 * spread + 6e-8).all()


def test_a_file_is_half_as_large_and_says_the_same(tmp_path):
    tensors = {"conv.weight": torch.randn(64, 32, 3, 3), "conv.bias": torch.randn(64)}
    save_tensors(tmp_path / "half.safetensors", {name: value.half() for name, value in tensors.items()})
    save_tensors(tmp_path / "eight.safetensors", packed(tensors))
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "eight")]
    assert sizes[1] < 0.55 * sizes[0]
    read = unpacked(read_state_dict(tmp_path / "eight.safetensors"))
    assert all(torch.equal(read[name], value) for name, value in unpacked(packed(tensors)).items())


def test_a_channel_of_zeros_stays_zero():
    value = torch.zeros(2, 3)
    value[1] = torch.tensor([1.0, -2.0, 0.5])
    assert unpacked(packed({"layer": value}))["layer"][0].tolist() == [0, 0, 0]


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"conv\.weight has numbers that are not finite"):
        packed({"conv.weight": torch.tensor([[1.0, float("nan")]])})


def test_what_is_no_fraction_or_not_packed_stays():
    whole = {"steps": torch.tensor([1, 2]), "layer": torch.randn(2, 3).half()}
    assert torch.equal(packed(whole)["steps"], whole["steps"]) and unpacked(whole) == whole
