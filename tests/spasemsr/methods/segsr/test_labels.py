"""The label diffusion: its two ends, its draws, the common clock, and the loss."""

import pytest
import torch

from spasemsr.methods.segsr.labels import as_carry, draw, keep_probabilities, label_loss, label_time, probabilities

STEPS, CLASSES = 100, 34


def _labels(seed=0, size=(2, 8, 8)):
    return torch.randint(CLASSES, size, generator=torch.Generator().manual_seed(seed))


def test_the_first_step_is_nearly_one_hot_and_the_last_nearly_uniform():
    labels, keep = _labels(), keep_probabilities(STEPS)
    first, last = (probabilities(labels, keep[[end, end]], CLASSES) for end in (0, -1))
    assert first.gather(1, labels[:, None]).min() > 0.9999
    assert (last - 1 / CLASSES).abs().max() < 1e-5


def test_rows_sum_to_one_at_every_step():
    keep = keep_probabilities(STEPS)
    rows = probabilities(_labels().repeat(STEPS // 2, 1, 1), keep, CLASSES).sum(1)
    assert (rows - 1).abs().max() < 1e-12
    assert (keep.diff() < 0).all()


@pytest.mark.parametrize("tau", [0, 40, 99])
def test_draws_follow_the_probabilities(tau):
    labels = torch.full((1, 200, 200), 5)
    keep = keep_probabilities(STEPS)[[tau]]
    uniform = torch.rand(1, 200, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.bincount(draw(labels, keep, CLASSES, uniform).flatten(), minlength=CLASSES) / 40_000
    expected = probabilities(labels[:, :1, :1], keep, CLASSES)[0, :, 0, 0]
    assert (found - expected).abs().max() < 0.01


def test_an_unknown_cell_may_be_any_class():
    unknown, keep = torch.full((1, 50, 50), CLASSES), keep_probabilities(STEPS)[[0]]
    assert torch.allclose(probabilities(unknown, keep, CLASSES), torch.tensor(1 / CLASSES, dtype=torch.float64))
    drawn = draw(unknown, keep, CLASSES, torch.rand(1, 50, 50, dtype=torch.float64))
    assert drawn.unique().tolist() == list(range(CLASSES))


def test_both_diffusions_end_together():
    times = label_time(torch.tensor([0, 500, 999]), 1000, STEPS)
    assert times.tolist() == [0, 50, 99]
    assert label_time(torch.arange(1000), 1000, STEPS).unique().numel() == STEPS


def test_the_carry_is_one_hot():
    labels = _labels()
    carry = as_carry(labels, CLASSES)
    assert carry.shape == (2, CLASSES, 8, 8)
    assert torch.equal(carry.argmax(1), labels)
    assert torch.equal(carry.sum(1), torch.ones(2, 8, 8))


def test_unknown_cells_are_not_scored():
    labels, logits = _labels(size=(1, 4, 4)), torch.randn(1, CLASSES, 4, 4, requires_grad=True)
    half = labels.clone()
    half[:, 2:] = CLASSES
    alone = torch.nn.functional.cross_entropy(logits[:, :, :2], labels[:, :2])
    assert torch.allclose(label_loss(logits, half), alone)
    nothing = label_loss(logits, torch.full_like(labels, CLASSES))
    nothing.backward()
    assert nothing.item() == 0.0
    assert not logits.grad.any()
