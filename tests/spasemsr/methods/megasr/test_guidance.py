"""MS-GAM's parts against what the paper's equations say of them."""

import torch

from spasemsr.methods.megasr.guidance import Guidance, MapFusion, Saft, at_size


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


def test_cells_at_an_odd_side_average_what_is_left():
    """As the UNet's convolutions of stride 2 divide 9 cells: 5, then 3, then 2."""
    maps = torch.arange(9.0).expand(1, 1, 9, 9)
    assert at_size(maps, (5, 5))[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5, 8.0]
    assert [tuple(at_size(maps, (side, side)).shape[2:]) for side in (9, 5, 3, 2)] == [(9, 9), (5, 5), (3, 3), (2, 2)]
    assert torch.equal(at_size(maps, (9, 9)), maps)


def test_a_thin_edge_survives_reduction():
    edges = torch.zeros(1, 1, 64, 64)
    edges[..., 13] = 1.0
    assert torch.allclose(at_size(edges, (8, 8))[0, 0, :, 1], torch.tensor(1 / 8))
