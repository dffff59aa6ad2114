"""MS-GAM's parts and the students' losses against what the paper's equations say of them."""

import pytest
import torch

from spasemsr.methods.megasr.guidance import Guidance, MapFusion, Saft, at_size
from spasemsr.methods.megasr.losses import depth_loss, embedding_loss, map_loss, silog


def test_the_residual_form_is_the_identity_at_the_start():
    torch.manual_seed(0)
    hidden, edges, merged = torch.randn(2, 16, 6, 6), torch.rand(2, 1, 12, 12), torch.randn(2, 64, 12, 12)
    assert torch.equal(Guidance(16, 8, edges=True, regions=True)(hidden, edges, merged), hidden)


def test_saft_scales_and_shifts():
    saft = Saft(1, 4)
    torch.nn.init.constant_(saft.gamma.bias, 0.5)
    torch.nn.init.constant_(saft.beta.bias, 2.0)
    normed = torch.randn(1, 4, 3, 3)
    assert torch.allclose(saft.change(normed, torch.rand(1, 1, 3, 3)), 0.5 * normed + 2.0)


def test_maps_are_merged_where_they_are():
    """F^r at a cell depends on the maps around it and on their mean; far from a changed label only the mean acts."""
    torch.manual_seed(0)
    fusion = MapFusion(classes=5)
    depth, labels = torch.rand(1, 1, 16, 16), torch.zeros(1, 16, 16, dtype=torch.long)
    changed = labels.clone()
    changed[0, :4, :4] = 3
    with torch.no_grad():
        difference = (fusion(depth, changed) - fusion(depth, labels)).abs().amax(1)[0]
    assert difference[:4, :4].min() > 5 * difference[6:, 6:].max()


def test_a_thin_edge_survives_reduction():
    edges = torch.zeros(1, 1, 64, 64)
    edges[..., 13] = 1.0
    assert torch.allclose(at_size(edges, (8, 8))[0, 0, :, 1], torch.tensor(1 / 8))


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
    assert map_loss(maps, maps, depth, depth).item() == 0.0
    assert depth_loss(maps, maps, depth, depth, gamma=1.0).item() == 0.0
    assert embedding_loss(maps, maps, [maps, depth], [maps, depth]).item() == 0.0
    assert map_loss(maps, maps, depth, depth + 0.5, alpha=2.0).item() == pytest.approx(1.0)
    assert embedding_loss(maps, maps + 1, [maps], [maps + 0.25]).item() == pytest.approx(1.25)
