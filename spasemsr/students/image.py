"""The student of MegaSR's image encoder (its eq. 6): CLIP with low-rank adaptations.

B batch, N rows of width D (the class token, then patches), n blocks that are compared.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.extractors.clip_vision import DEVIATION, MEAN
from spasemsr.backends.networks.lora import LoraLinear, add_lora, merged_state, thin_layers
from spasemsr.students.columns import BLOCKS, FINAL
from spasemsr.students.losses import embedding_loss
from spasemsr.students.pupil import Pupil
from spasemsr.students.writing import write_pretrained

_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")


class ImagePupil(Pupil):
    """Adaptations in every attention; the last states and those of some blocks are compared."""

    def __init__(self, encoder: Any, rank: int, every: int) -> None:
        """`every` k: the states after blocks k, 2k, ... are compared."""
        super().__init__()
        self.encoder, self.rank, self.every = encoder, rank, every
        self.added: dict[str, LoraLinear] = {}

    def answers(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Last states (B, N, D), and those after the compared blocks (B, n, N, D)."""
        side = self.encoder.config.image_size
        resized = functional.interpolate(images_B3HW, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, deviation = (torch.tensor(v, device=resized.device).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        found = self.encoder((resized - mean) / deviation, output_hidden_states=True)
        blocks = found.hidden_states[self.every :: self.every]  # the first is the embedding, before any block
        return {FINAL: found.last_hidden_state, BLOCKS: torch.stack(list(blocks), dim=1)}

    def losses(self, answers: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 6: L1 of the last states plus the sum of that of blocks."""
        blocks, references = (source[BLOCKS].float().unbind(1) for source in (answers, taught))
        return {"image": embedding_loss(answers[FINAL].float(), taught[FINAL], blocks, references)}

    def adapt(self) -> nn.Module:
        """Thin layers beside the attentions' own."""
        self.added = add_lora(self.encoder, self.rank, lambda name: name.endswith(_ATTENTION))
        return thin_layers(self.added)

    def write(self, folder: Path) -> None:
        """A checkpoint of kind `clip_vision`."""
        write_pretrained(self.encoder, folder, merged_state(self.encoder, self.added))
