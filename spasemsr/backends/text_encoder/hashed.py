"""TextEncoder: strings -> token states for cross-attention, with the conventions of CLIP's text model.

Embedded: every word has a fixed Gaussian vector of its own, drawn from its hash; nothing is learned and nothing is
looked up, so any word of any language has one. B batch, L rows, D width.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from spasemsr.backends.protocols import TextStates
from spasemsr.backends.text_encoder.spec import HashedTextSpec
from spasemsr.randomness import generator

_WORD = re.compile(r"\w+")
_SEED = 0  # part of the encoder's identity, not of a run
_POSITION_SCALE = 0.2
_MAX_VECTORS = 65536


class HashedTextEncoder(nn.Module):
    """Row 0 is BOS, then one row per word, then EOS, which sums the words up; the rest is zero and masked.

    Rows have about unit variance per dimension, like CLIP's after its last layer norm. A word's row depends on the word
    and its place alone, EOS on the words before it, none on the padding or on other strings: causal, as CLIP is.
    """

    def __init__(self, spec: HashedTextSpec) -> None:
        super().__init__()
        self.width, self.length = spec.width, spec.length
        self.register_buffer("_place", torch.zeros(()), persistent=False)  # where the states are wanted

    def encode(self, texts: Sequence[str]) -> TextStates:
        """Strings -> states (B, L, D) float32 and mask (B, L); words past L - 2 are dropped, EOS never is."""
        states = np.zeros((len(texts), self.length, self.width), np.float32)
        mask = np.zeros((len(texts), self.length), np.float32)
        for i, text in enumerate(texts):
            rows = _rows(text, self.length, self.width)
            states[i, : len(rows)] = rows
            mask[i, : len(rows)] = 1.0
        place = self._place.device
        return TextStates(torch.from_numpy(states).to(place), torch.from_numpy(mask).to(place))


def words_of(text: str) -> list[str]:
    """Lower-cased words; punctuation only separates."""
    return _WORD.findall(text.lower())


def _rows(text: str, length: int, width: int) -> np.ndarray:
    """(2 + number of words, D): BOS, words, EOS."""
    words = words_of(text)[: length - 2]
    bos, eos = _vector("special", "bos", width), _vector("special", "eos", width)
    if not words:
        return np.stack([bos, eos])
    content = np.stack([_vector("word", word, width) for word in words])
    mean = content.mean(axis=0)
    summary = (mean / max(float(np.sqrt(np.mean(mean**2))), 1e-6) + eos) / np.sqrt(np.float32(2))
    places = np.stack([_vector("position", str(i), width) for i in range(len(words))])
    content = (content + _POSITION_SCALE * places) / np.sqrt(np.float32(1 + _POSITION_SCALE**2))
    return np.concatenate([bos[None], content, summary[None]])


@lru_cache(maxsize=_MAX_VECTORS)
def _vector(kind: str, name: str, width: int) -> np.ndarray:
    """The (D,) float32 standard normal vector that belongs to a name."""
    vector = generator(_SEED, "hashed text", kind, name).standard_normal(width, dtype=np.float32)
    vector.setflags(write=False)
    return vector
