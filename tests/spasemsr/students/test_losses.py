"""The losses of MegaSR's students against what the paper's equations say of them."""

import pytest
import torch

from spasemsr.students.losses import depth_loss, embedding_loss, silog


def test_silog_of_equal_depths_is_zero_and_has_a_finite_gradient():
    depth = torch.rand(2, 5, 5).add(0.1).requires_grad_()
    loss = silog(depth, depth.detach())
    loss.backward()
    assert loss.item() == 0.0
    assert depth.grad.isfinite().all()


def test_silog_against_numbers_by_hand():
    """d = log 2 everywhere: sqrt(d^2 - d^2 / 2)."""
    reference = torch.rand(1, 4, 4) + 0.5
    expected = (0.5 * torch.log(torch.tensor(2.0)) ** 2).sqrt()
    assert silog(2 * reference, reference).item() == pytest.approx(expected.item(), abs=2e-3)


def test_student_losses_are_zero_for_the_teachers_own_answers():
    maps, depth = torch.rand(2, 3, 4, 4), torch.rand(2, 4, 4) + 0.1
    assert depth_loss(maps, maps, depth, depth, gamma=1.0).item() == 0.0
    assert embedding_loss(maps, maps, [maps, depth], [maps, depth]).item() == 0.0
    assert embedding_loss(maps, maps + 1, [maps], [maps + 0.25]).item() == pytest.approx(1.25)
