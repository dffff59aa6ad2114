"""E_img and E_sem: shapes and receptive fields; injection: stride table, averaging, zero start."""

import pytest
import torch

from spasemsr.methods.spasemsr.visual_encoders import Injection, VisualEncoder

CHANNELS = (4, 4, 4, 8)


@pytest.mark.parametrize(("blocks", "field"), [(0, 47), (4, 239)])
def test_receptive_fields(blocks, field):
    torch.manual_seed(6)
    encoder = VisualEncoder(CHANNELS, blocks, 2).double()
    for block in encoder.blocks:
        torch.nn.init.ones_(block.layer_scale)  # 1e-6 at the start: visible, but lost in the comparison below
    image = torch.rand(1, 3, 272, 272, dtype=torch.float64, requires_grad=True)
    out = encoder(image)
    assert out.shape == (1, 2, 34, 34)
    out[0, :, 17, 17].sum().backward()
    touched = image.grad[0].abs().amax(0) > 0
    rows = touched.any(1).nonzero().flatten()
    columns = touched.any(0).nonzero().flatten()
    assert len(rows) == len(columns) == field
    assert rows[-1] - rows[0] == field - 1


def test_injection_adds_nothing_at_the_start():
    injection = Injection(6, (16, 32, 32, 32))
    hidden, features = torch.randn(1, 32, 2, 3), torch.randn(1, 6, 12, 20)
    assert torch.equal(injection(3, hidden, features), hidden)


@pytest.mark.parametrize(("entry", "stride"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 8)])
def test_injection_averages_the_cells_below_each_position(entry, stride):
    injection = Injection(6, (6, 6, 6, 6))
    torch.nn.init.dirac_(injection.convs[entry].weight)
    features = torch.randn(2, 6, 12, 20)
    size = (-(-12 // stride), -(-20 // stride))  # rounded up, as the backbone's stride-2 convs do
    out = injection(entry, torch.zeros(2, 6, *size), features)
    for row in range(size[0]):
        for column in range(size[1]):
            cells = features[:, :, stride * row : stride * (row + 1), stride * column : stride * (column + 1)]
            assert torch.allclose(out[:, :, row, column], cells.mean((2, 3)), atol=1e-6)
