"""The lean forms of a network's layers: the numbers of the plain ones up to rounding, and nothing left behind."""

import math

import pytest
import torch

from spasemsr.diffusion import lean as module
from spasemsr.diffusion import products as libraries
from spasemsr.diffusion.attention import build_attention
from spasemsr.diffusion.lean import attend, lean
from spasemsr.diffusion.products import product, products
from tests.worlds.small_networks import pico_network, random_condition, random_inputs, redraw_zeros


@pytest.fixture(params=["MKL", "oneDNN"])
def library(request, monkeypatch):
    """Every product by one library, whatever CPU this is."""
    if request.param == "oneDNN" and not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(libraries, "mkl_is_slow", lambda: request.param == "oneDNN")
    monkeypatch.setattr(libraries, "_LARGE", 0)


@pytest.mark.parametrize("changes", [{}, {"spatial": {"binding": "bias"}, "base_text": "spa"}])
@pytest.mark.parametrize("size", [(16, 16), (9, 20)])
def test_a_whole_network_predicts_the_same(size, changes, library):
    network = redraw_zeros(pico_network(**changes), scale=0.1).eval()
    inputs = random_inputs(2, *size)
    with torch.no_grad():
        encoded = network.encode(inputs["lr_up"], random_condition())
        plain = network.predict(inputs["latents"], inputs["timesteps"], encoded)
        with lean(network):
            found = network.predict(inputs["latents"], inputs["timesteps"], encoded)
        again = network.predict(inputs["latents"], inputs["timesteps"], encoded)
    assert torch.equal(plain.sample, again.sample)
    assert not torch.equal(plain.sample, found.sample)  # another order of sums, so the forms did run
    pairs = [(plain.sample, found.sample), *zip(plain.residuals, found.residuals, strict=True)]
    assert max((a - b).abs().max() / a.abs().max() for a, b in pairs) < 2e-5


@pytest.mark.parametrize("kind", ["full", "cross"])
@pytest.mark.parametrize("keys", [7, 100])
def test_one_block_with_and_without_a_mask(kind, keys, monkeypatch, library):
    monkeypatch.setattr(module, "_BATCHED", 5000)  # 100 keys and 63 cells are taken head by head, 40 cells at a time
    monkeypatch.setattr(module, "_CACHED", 4000)
    block = build_attention(kind, 16, 32, heads=2, groups=8)
    x, kv = torch.randn(3, 16, 9, 7), torch.randn(3, keys, 32)
    mask = torch.rand(3, keys) < 0.5
    mask[:, 0] = True
    with torch.no_grad():
        for given in (None, mask):
            plain = block(x, kv, given)
            with lean(block):
                assert (block(x, kv, given) - plain).abs().max() < 2e-6
                assert (block(x[:1], kv[:1], None if given is None else given[:1]) - plain[:1]).abs().max() < 2e-6


@pytest.mark.parametrize("keys", [5, 300])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e-3])
def test_logits_beyond_the_range_of_exponentials(keys, size, library):
    """Without a shift, 2^200 is infinite and 2^-200 zero."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 8, n, generator=draw) for n in (200, keys, keys))
    query = size * query
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x.double().view(1, 2, 4, -1).transpose(2, 3) for x in (query, key, value)), scale=math.log(2)
    )
    rounding = max(2e-5, 1e-6 * size)  # in fp32, logits of thousands are off by some ten thousandths
    assert (attend(query, key, value, 2) - expected.transpose(2, 3).reshape(1, 8, 200)).abs().max() < rounding
    lower = torch.full((2, keys, 1), -300.0)
    assert (attend(query, key, value, 2, lower) - attend(query, key, value, 2)).abs().max() < 2e-5


def test_products_of_any_layout(library):
    a, b = torch.randn(12, 7), torch.randn(3, 7, 40)
    exact = a.double() @ b.double()
    turned = b.transpose(1, 2).contiguous().transpose(1, 2)[..., 5:30]
    assert torch.allclose(products(a, b).double(), exact, atol=1e-5)
    assert torch.allclose(product(a.t().contiguous().t(), turned[1]).double(), exact[1, :, 5:30], atol=1e-5)
