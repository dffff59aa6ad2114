"""Small students of the embedded extractors: convolutions that see in lr what fixed filters see in hr.

B batch, h w cells of 8 px, K classes, R rows of a grid.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.extractors.spec import AnyStudentSpec, StudentLabelsSpec, StudentMapSpec
from spasemsr.backends.networks.small_student import PLACE, small_student
from spasemsr.students.columns import ANSWER, LABELS
from spasemsr.students.losses import label_loss
from spasemsr.students.pupil import Pupil
from spasemsr.students.spec import WEIGHTS
from spasemsr.weights.tensors import save_tensors


class SmallPupil(Pupil):
    """A network of its own: its teacher is no network that it could start from."""

    def __init__(self, spec: AnyStudentSpec) -> None:
        """Weights come from torch's generator."""
        super().__init__()
        self.spec, self.network = spec, small_student(spec)
        self.network.requires_grad_(False)

    def answers(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """A map (B, 1, h, w), logits of classes (B, K, h, w), or rows without their places (B, R, numbers)."""
        return {LABELS if isinstance(self.spec, StudentLabelsSpec) else ANSWER: self.network(images_B3HW)}

    def losses(self, answers: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """L1 of maps (eq. 5 of MegaSR, which has no features to compare here), cross-entropy of labels, MSE of rows."""
        match self.spec:
            case StudentMapSpec():
                return {"map": functional.l1_loss(answers[ANSWER].float().sigmoid(), taught[ANSWER])}
            case StudentLabelsSpec():
                return {"labels": label_loss(answers[LABELS], taught[LABELS])}
        return {"rows": functional.mse_loss(answers[ANSWER].float(), taught[ANSWER][..., :-PLACE])}

    def adapt(self) -> nn.Module:
        """All of it."""
        return self.network.requires_grad_(True)

    def write(self, folder: Path) -> None:
        """A checkpoint of the student's own kinds."""
        save_tensors(folder / WEIGHTS, self.network.state_dict())
