"""DAPE, the degradation-aware prompt extractor (SeeSR sec. 3.2): a recogniser that sees in lr what it would see in hr.

The student is the recogniser itself with low-rank adaptations; its teacher is the frozen recogniser on hr, whose
answers are columns, so that it runs once. B batch, R rows of width K, T tags, h w pixels of lr.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.networks.lora import add_lora, merged_state
from spasemsr.methods.protocol import Trainable
from spasemsr.pixels import bicubic_upsample

if TYPE_CHECKING:
    from spasemsr.backends.networks.ram import Ram
    from spasemsr.data.dataset import Batch
    from spasemsr.methods.noise import Noise

RANK = 8
ROWS, LOGITS = "teacher_rows", "teacher_logits"  # features: the teacher's answers for hr
_ATTENTION = (".attn.qkv", ".attn.proj", ".self.query", ".self.key", ".self.value", ".crossattention.output.dense")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as RAM was trained


class Dape(Trainable):
    """Adaptations of rank 8 in the attentions of the Swin encoder and of the tagging head."""

    def __init__(self, recogniser: "Ram", scale: int, side: int, column: str) -> None:
        """`side` is the recogniser's square in pixels, `column` where the teacher's answers are."""
        super().__init__()
        self.columns = frozenset({"lr", column})
        self.scale, self.side = scale, side
        self.added = add_lora(recogniser, RANK, lambda name: name.endswith(_ATTENTION))
        self.recogniser = recogniser

    def forward(self, batch: "Batch", noise: "Noise") -> dict[str, Tensor]:
        """Eq. 1: MSE of representations, and cross-entropy of tag probabilities against the teacher's."""
        rows_BRK, logits_BT = self.answers(batch.lr)
        target_BT = torch.sigmoid(batch.features[LOGITS])
        return {
            "representation": functional.mse_loss(rows_BRK.float(), batch.features[ROWS]),
            "tags": functional.binary_cross_entropy_with_logits(logits_BT.float(), target_BT),
        }

    def answers(self, lr_B3hw: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, h, w) in [0, 1] -> representation (B, R, K) and logits (B, T) of lr enlarged by bicubic."""
        images = bicubic_upsample(lr_B3hw, self.scale)
        size = (self.side, self.side)
        images = functional.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        mean, deviation = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        rows_BRK = self.recogniser.represent((images - mean) / deviation)
        return rows_BRK, self.recogniser.logits(rows_BRK)

    def trainable(self) -> dict[str, nn.Module]:
        """The thin layers, by the name of the layer they adapt."""
        thin = {
            name.replace(".", "/"): nn.ModuleDict({"down": layer.down, "up": layer.up})
            for name, layer in self.added.items()
        }
        return {"lora": nn.ModuleDict(thin)}

    def student(self) -> dict[str, Tensor]:
        """The student's tensors in the recogniser's own layout, for a checkpoint of kind `ram`."""
        return merged_state(self.recogniser, self.added)
