"""DAPE, the degradation-aware prompt extractor (SeeSR sec. 3.2): a recogniser that sees in lr what it would see in hr.

The student is the recogniser itself with low-rank adaptations; its teacher is the frozen recogniser on hr, whose
answers are a column, so that it runs once. B batch, R rows of width K, T tags, H W pixels of hr.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.extractors.ram_rows import DEVIATION, MEAN
from spasemsr.backends.networks.lora import LoraLinear, add_lora, merged_state, thin_layers
from spasemsr.backends.networks.ram import published
from spasemsr.students.columns import LOGITS, ROWS
from spasemsr.students.pupil import Pupil
from spasemsr.students.spec import WEIGHTS
from spasemsr.weights.tensors import save_tensors

if TYPE_CHECKING:
    from spasemsr.backends.networks.ram import Ram

_ATTENTION = (".attn.qkv", ".attn.proj", ".self.query", ".self.key", ".self.value", ".crossattention.output.dense")


class RamPupil(Pupil):
    """Adaptations in the attentions of the Swin encoder and of the tagging head."""

    def __init__(self, recogniser: "Ram", side: int, rank: int) -> None:
        """`side` is the recogniser's square in pixels."""
        super().__init__()
        self.recogniser, self.side, self.rank = recogniser, side, rank
        self.added: dict[str, LoraLinear] = {}

    def answers(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Representation (B, R, K) and logits of tags (B, T)."""
        size = (self.side, self.side)
        images = functional.interpolate(images_B3HW, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        mean, deviation = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        rows_BRK = self.recogniser.represent((images - mean) / deviation)
        return {ROWS: rows_BRK, LOGITS: self.recogniser.logits(rows_BRK)}

    def losses(self, answers: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 1: MSE of representations, and cross-entropy of tag probabilities against the teacher's."""
        target_BT = torch.sigmoid(taught[LOGITS])
        return {
            "representation": functional.mse_loss(answers[ROWS].float(), taught[ROWS]),
            "tags": functional.binary_cross_entropy_with_logits(answers[LOGITS].float(), target_BT),
        }

    def adapt(self) -> nn.Module:
        """Thin layers beside the attentions' own."""
        self.added = add_lora(self.recogniser, self.rank, lambda name: name.endswith(_ATTENTION))
        return thin_layers(self.added)

    def write(self, folder: Path) -> None:
        """The recogniser's own layout, adaptations added to the weights: a checkpoint of kind `ram`."""
        save_tensors(folder / WEIGHTS, published(merged_state(self.recogniser, self.added)))
