"""Hashed text: CLIP's conventions without CLIP's weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.backends.text_encoder.hashed import words_of
from spasemsr.backends.text_encoder.spec import HashedTextSpec


def encoder(width: int = 64, length: int = 16):
    return build_text_encoder(HashedTextSpec(kind="hashed", width=width, length=length))


TEXTS = st.lists(st.text(max_size=40), min_size=1, max_size=4)


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.integers(4, 20), st.integers(1, 40))
def test_layout_of_any_text(texts, length, width):
    states = encoder(width, length).encode(texts)
    assert states.states_BLD.shape == (len(texts), length, width) and states.mask_BL.shape == (len(texts), length)
    assert states.states_BLD.dtype == torch.float32 and bool(torch.isfinite(states.states_BLD).all())
    for text, rows, mask in zip(texts, states.states_BLD, states.mask_BL, strict=True):
        used = 2 + min(len(words_of(text)), length - 2)
        assert mask.tolist() == [1.0] * used + [0.0] * (length - used)
        assert not rows[used:].any()


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.text(max_size=40))
def test_a_text_does_not_depend_on_its_neighbours(texts, other):
    together = encoder().encode([*texts, other]).states_BLD
    assert torch.equal(together[: len(texts)], encoder().encode(texts).states_BLD)
    assert torch.equal(together[-1:], encoder().encode([other]).states_BLD)


def test_rows_are_causal_and_independent_of_padding():
    short, long = encoder(length=8), encoder(length=30)
    text = "blue sky over a gray stone wall"  # seven words: truncated at eight rows
    one, other = short.encode([text]), long.encode([text])
    assert torch.equal(one.states_BLD[0, :7], other.states_BLD[0, :7])
    assert one.mask_BL.sum() == 8 and other.mask_BL.sum() == 9
    longer = long.encode([text + " and a tree"])
    assert torch.equal(longer.states_BLD[0, :8], other.states_BLD[0, :8])  # BOS and seven words
    assert not torch.equal(longer.states_BLD[0, 8], other.states_BLD[0, 8])  # a word where EOS was


def test_eos_is_kept_when_words_are_dropped():
    states = encoder(length=6).encode(["one two three four", "one two three four five six"]).states_BLD
    assert torch.equal(states[0], states[1])


def test_bos_is_the_same_for_every_string():
    states = encoder().encode(["", "blue sky", "a b c d e f g h i j k l m n o p q"]).states_BLD
    assert torch.equal(states[0, 0], states[1, 0]) and torch.equal(states[0, 0], states[2, 0])


def test_case_and_punctuation_do_not_matter_but_words_do():
    same = encoder().encode(["Blue sky, green-foliage", "blue SKY green foliage"]).states_BLD
    assert torch.equal(same[0], same[1])
    rows = encoder().encode(["blue sky", "gray sky"]).states_BLD
    assert torch.equal(rows[0, 2], rows[1, 2])  # sky, at the same place
    assert not torch.equal(rows[0, 1], rows[1, 1]) and not torch.equal(rows[0, 3], rows[1, 3])


def test_rows_have_unit_scale_and_different_words_are_far_apart():
    words = [f"word{i}" for i in range(200)]
    states = encoder(width=256).encode(words).states_BLD
    for row in range(3):
        assert states[:, row].square().mean().sqrt() == pytest.approx(1.0, abs=0.1)
    content = states[:, 1] / states[:, 1].norm(dim=1, keepdim=True)
    alike = (content @ content.T).fill_diagonal_(0)
    assert alike.abs().max() < 0.5


def test_eos_pools_its_words():
    eos = encoder(width=256).encode(["blue sky", "sky blue", "blue sea", "red brick"]).states_BLD[:, 3]
    near, far = (torch.cosine_similarity(eos[0], eos[i], dim=0) for i in (2, 3))
    assert torch.allclose(eos[0], eos[1], atol=1e-6) and near > far + 0.1


def test_golden_vectors():
    rows = encoder(width=4, length=4).encode(["sky"]).states_BLD[0, :3].numpy()
    expected = [
        [1.36997, 2.23338, 0.23272, -0.48064],  # BOS
        [-0.62112, 0.50003, 1.01878, -0.31378],  # sky
        [-0.85567, 0.98293, 1.04442, -0.29368],  # EOS
    ]
    assert np.allclose(rows, expected, atol=1e-4), "text states moved: raise the version in the encoder's identity"
