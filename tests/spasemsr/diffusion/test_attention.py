"""Added attentions: parameter formulas, identity of a zero projection, cloning by name, masks."""

import pytest
import torch
from diffusers import Transformer2DModel

from spasemsr.diffusion.attention import build_attention, clone, tokens, zero_out

KINDS = ("full", "cross")


def _source(channels: int, kv_width: int) -> Transformer2DModel:
    torch.manual_seed(4)
    return Transformer2DModel(
        num_attention_heads=2,
        attention_head_dim=channels // 2,
        in_channels=channels,
        norm_num_groups=8,
        cross_attention_dim=kv_width,
        use_linear_projection=True,
    )


@pytest.mark.parametrize(("channels", "kv_width"), [(16, 32), (32, 16), (48, 48)])
def test_sizes_follow_the_formulas(channels, kv_width):
    full = build_attention("full", channels, kv_width, heads=2, groups=8)
    cross = build_attention("cross", channels, kv_width, heads=2, groups=8)
    squared, mixed = channels * channels, channels * kv_width
    assert sum(p.numel() for p in full.parameters()) == 20 * squared + 2 * mixed + 21 * channels
    assert sum(p.numel() for p in cross.parameters()) == 4 * squared + 2 * mixed + 7 * channels
    assert (len(list(full.parameters())), len(list(cross.parameters()))) == (26, 13)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_out_is_the_identity_in_every_precision(kind):
    block = build_attention(kind, 16, 32, heads=2, groups=8)
    x, kv = torch.randn(2, 16, 3, 5), torch.randn(2, 7, 32)
    assert not torch.equal(block(x, kv), x)
    zero_out(block)
    assert torch.equal(block(x, kv), x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            out = block(x.to(dtype), kv)
            assert out.dtype == dtype
            assert torch.equal(out, x.to(dtype))


def test_full_is_the_block_of_sd():
    source = _source(16, 32)
    block = build_attention("full", 16, 32, heads=2, groups=8)
    clone(block, source)
    theirs = source.state_dict()
    assert block.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in block.state_dict().items())
    x, kv = torch.randn(2, 16, 3, 5), torch.randn(2, 7, 32)
    mask = torch.arange(7).expand(2, 7) < 5
    expected = source(x, kv, encoder_attention_mask=mask, return_dict=False)[0]
    assert torch.equal(block(x, kv, mask), expected)


def test_clone_leaves_key_and_value_projections_even_when_their_shapes_agree():
    source = _source(32, 32)  # channels equal the text width: a copy by shape would take the text projections
    block = build_attention("full", 32, 32, heads=2, groups=8)
    clone(block, source, keys_and_values=False)
    theirs = source.state_dict()
    differing = {name for name, tensor in block.state_dict().items() if not torch.equal(tensor, theirs[name])}
    assert differing == {f"transformer_blocks.0.attn2.to_{name}.weight" for name in "kv"}


def test_cross_clones_norm_proj_in_norm2_and_attn2():
    source = _source(16, 32)
    block = build_attention("cross", 16, 32, heads=2, groups=8)
    before = block.proj_out.weight.clone()
    clone(block, source)
    inner = source.transformer_blocks[0]
    for ours, theirs in (
        (block.norm, source.norm),
        (block.proj_in, source.proj_in),
        (block.norm2, inner.norm2),
        (block.attn2, inner.attn2),
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert torch.equal(block.proj_out.weight, before)


def test_cross_attends_as_its_definition_says():
    block = build_attention("cross", 16, 32, heads=2, groups=8).double()
    x, kv = torch.randn(1, 16, 2, 3, dtype=torch.float64), torch.randn(1, 5, 32, dtype=torch.float64)
    query = block.norm2(block.proj_in(tokens(block.norm(x))))
    heads = []
    for head in range(2):
        rows = slice(8 * head, 8 * head + 8)
        q, k, v = (m.weight[rows] for m in (block.attn2.to_q, block.attn2.to_k, block.attn2.to_v))
        weights = torch.softmax((query @ q.T) @ (kv @ k.T).transpose(1, 2) / 8**0.5, dim=-1)
        heads.append(weights @ (kv @ v.T))
    attended = block.proj_out(block.attn2.to_out[0](torch.cat(heads, dim=-1)))
    expected = x + attended.transpose(1, 2).reshape(1, 16, 2, 3)
    assert torch.allclose(block(x, kv), expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_masked_keys_do_not_enter_at_all(kind):
    block = build_attention(kind, 16, 32, heads=2, groups=8)
    x, kv = torch.randn(2, 16, 3, 5), torch.randn(2, 7, 32)
    mask = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    other = torch.where(mask.unsqueeze(-1), kv, 1e3 * torch.randn_like(kv))
    assert torch.equal(block(x, kv, mask), block(x, other, mask))
    assert not torch.equal(block(x, kv, mask), block(x, kv))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_a_valid_key_would_leak_its_padding(kind):
    """Why the null object is always valid, and why `spatial_text` refuses a row without one."""
    block = build_attention(kind, 16, 32, heads=2, groups=8)
    x, kv = torch.randn(1, 16, 3, 5), torch.randn(1, 7, 32)
    nothing = torch.zeros(1, 7, dtype=torch.bool)
    out, other = block(x, kv, nothing), block(x, torch.randn_like(kv), nothing)
    assert out.isfinite().all()
    assert (out - other).abs().max() > 1e-3
