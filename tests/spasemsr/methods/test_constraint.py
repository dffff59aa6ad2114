"""The semantic degradation loss (eq. 9): limits of lambda, switches, scale, references at every stride."""

import pytest
import torch

from spasemsr.methods.spasemsr.constraint import (
    ConstraintHeads,
    layer_distances,
    reference_at,
    semantic_degradation_loss,
    weighted,
)

CHANNELS = (16, 16, 16, 16, 32, 32, 32, 32, 32, 32, 32, 32, 32)
STRIDES = (1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8)
LATENTS, FEATURES = 4, 8


def _heads(img: bool = True, sem: bool = True) -> ConstraintHeads:
    torch.manual_seed(7)
    return ConstraintHeads(CHANNELS, LATENTS, FEATURES, img, sem)


def _case(batch: int = 2, size: int = 16):
    """Random residuals at every stride, and references at stride 1."""
    draw = torch.Generator().manual_seed(8)
    residuals = [
        torch.randn(batch, c, size // s, size // s, generator=draw).requires_grad_()
        for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]
    latents = torch.randn(batch, LATENTS, size, size, generator=draw)
    return residuals, latents, torch.randn(batch, FEATURES, size, size, generator=draw)


def test_it_is_eq_9():
    residuals, latents, features = _case()
    heads = _heads()
    losses = semantic_degradation_loss(residuals, latents, features, heads, 0.3)
    expected = {"img": 0.0, "sem": 0.0}
    for i, (residual, stride) in enumerate(zip(residuals, STRIDES, strict=True)):
        half = CHANNELS[i] // 2
        z = torch.nn.functional.avg_pool2d(latents, stride)
        s = torch.nn.functional.avg_pool2d(features, stride)
        expected["img"] += 0.7 * (heads.img[i](residual[:, :half]) - z).abs().mean()
        expected["sem"] += 0.3 * (heads.sem[i](residual[:, half:]) - s).abs().mean()
    assert losses.keys() == expected.keys()
    for name in expected:
        assert losses[name].item() == pytest.approx(expected[name].item(), rel=1e-5)


@pytest.mark.parametrize(("lambda_", "silent", "heard"), [(0.0, "sem", "img"), (1.0, "img", "sem")])
def test_the_limits_of_lambda_leave_the_other_half_alone(lambda_, silent, heard):
    residuals, latents, features = _case()
    heads = _heads()
    sum(semantic_degradation_loss(residuals, latents, features, heads, lambda_).values()).backward()
    for residual in residuals:
        halves = dict(zip(("img", "sem"), residual.grad.chunk(2, dim=1), strict=True))
        assert not halves[silent].any()
        assert halves[heard].any()
    assert all(p.grad is None or not p.grad.any() for p in getattr(heads, silent).parameters())
    assert all(p.grad.any() for p in getattr(heads, heard).parameters())


@pytest.mark.parametrize("off", ["img", "sem"])
def test_a_half_that_is_off_has_no_heads_and_does_not_rescale_the_other(off):
    residuals, latents, features = _case()
    both, one = _heads(), _heads(**{off: False})
    kept = "sem" if off == "img" else "img"
    getattr(one, kept).load_state_dict(getattr(both, kept).state_dict())
    assert getattr(one, off) is None
    full = semantic_degradation_loss(residuals, latents, features, both, 0.5)
    partial = semantic_degradation_loss(residuals, latents, features, one, 0.5)
    assert partial.keys() == {kept}
    assert torch.equal(partial[kept], full[kept])


def test_layers_are_available_for_logging():
    residuals, latents, features = _case()
    distances = layer_distances(residuals, latents, features, _heads())
    assert {name: terms.shape for name, terms in distances.items()} == {"img": (13,), "sem": (13,)}
    losses = weighted(distances, 0.25)
    assert losses["img"].item() == pytest.approx(0.75 * distances["img"].sum().item())
    assert losses["sem"].item() == pytest.approx(0.25 * distances["sem"].sum().item())


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_the_scale_at_the_start_is_that_of_a_sum_over_13_means(lambda_):
    """Zero residuals: 13 E|N(0,1)| = 10.4 for unit variance at every stride, 4.6 for white noise averaged to it."""
    torch.manual_seed(9)
    heads = ConstraintHeads(CHANNELS, 64, 64, True, True)
    residuals = [torch.zeros(16, c, 32 // s, 32 // s) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    flat = [torch.randn(16, 64, 1, 1).expand(-1, -1, 32, 32) for _ in range(2)]
    assert sum(semantic_degradation_loss(residuals, *flat, heads, lambda_).values()).item() == pytest.approx(
        10.4, abs=0.5
    )
    white = [torch.randn(16, 64, 32, 32) for _ in range(2)]
    assert sum(semantic_degradation_loss(residuals, *white, heads, lambda_).values()).item() == pytest.approx(
        4.6, abs=0.15
    )


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_references_are_block_means(stride):
    reference = torch.randn(2, 4, 16, 24, dtype=torch.float64)
    size = (16 // stride, 24 // stride)
    blocks = reference.view(2, 4, size[0], stride, size[1], stride).mean((3, 5))
    assert torch.allclose(reference_at(reference, size), blocks, atol=1e-14)


def test_distances_are_in_fp32_under_low_precision():
    residuals, latents, features = _case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = layer_distances(residuals, latents.bfloat16(), features, _heads())
    assert all(terms.dtype == torch.float32 for terms in distances.values())
