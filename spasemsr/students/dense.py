"""Students of transformers' dense networks: SegSR's segmenter and MegaSR's depth.

B batch, K classes, h w cells of 8 px, N rows of the backbone of width D, H W pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spasemsr.backends.extractors.dense import DEPTH_SIDE, SEGFORMER_SIDE, in_cells, prepared
from spasemsr.backends.networks.lora import LoraLinear, add_lora, merged_state, thin_layers
from spasemsr.students.columns import DEPTH, FEATURES, LABELS
from spasemsr.students.losses import depth_loss, label_loss
from spasemsr.students.pupil import Pupil
from spasemsr.students.writing import write_pretrained

_ATTENTION = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj")  # DINOv2's


class SegmenterPupil(Pupil):
    """SegFormer, all of it fine-tuned: the class of every cell of hr, seen in lr (SegSR's stage 0)."""

    def __init__(self, segmenter: Any) -> None:
        super().__init__()
        self.segmenter = segmenter

    def answers(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Logits of classes (B, K, h, w), where its extractor would choose the largest."""
        return {LABELS: in_cells(self.segmenter(prepared(images_B3HW, SEGFORMER_SIDE)).logits, images_B3HW)}

    def losses(self, answers: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy against the labels of hr, mean over cells."""
        return {"labels": label_loss(answers[LABELS], taught[LABELS])}

    def adapt(self) -> nn.Module:
        """The whole network."""
        self.segmenter.requires_grad_(True)
        return self.segmenter

    def write(self, folder: Path) -> None:
        """A checkpoint of kinds `segformer` and `segformer_features`."""
        write_pretrained(self.segmenter, folder)


class DepthPupil(Pupil):
    """Depth Anything with adaptations in the attentions of its backbone."""

    def __init__(self, network: Any, rank: int, gamma: float) -> None:
        super().__init__()
        self.network, self.rank, self.gamma = network, rank, gamma
        self.added: dict[str, LoraLinear] = {}

    def answers(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """The backbone's last features (B, N, D), and relative depth, larger is nearer."""
        inputs = prepared(images_B3HW, DEPTH_SIDE)
        features = self.network.backbone(inputs).feature_maps
        rows, columns = (side // self.network.config.patch_size for side in inputs.shape[2:])
        depth_BHW = self.network.head(self.network.neck(features, rows, columns), rows, columns)
        return {FEATURES: features[-1], DEPTH: depth_BHW}

    def losses(self, answers: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """L1 of features plus gamma times SILog of depth."""
        ours, theirs = (answers[FEATURES].float(), answers[DEPTH].float()), (taught[FEATURES], taught[DEPTH])
        return {"depth": depth_loss(ours[0], theirs[0], ours[1], theirs[1], self.gamma)}

    def adapt(self) -> nn.Module:
        """Thin layers beside the attentions' own."""
        self.added = add_lora(self.network, self.rank, lambda name: name.endswith(_ATTENTION))
        return thin_layers(self.added)

    def write(self, folder: Path) -> None:
        """A checkpoint of kind `depth_anything`."""
        write_pretrained(self.network, folder, merged_state(self.network, self.added))
