"""A pupil in training: shown what is left of hr, and asked what hr shows."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from spasemsr.methods.protocol import Trainable
from spasemsr.pixels import bicubic_upsample
from spasemsr.students.pupil import Pupil

if TYPE_CHECKING:
    from spasemsr.data.dataset import Batch
    from spasemsr.methods.noise import Noise


class Student(Trainable):
    """A pupil that is shown lr enlarged by bicubic, or the restorer's image, and is asked what hr shows."""

    def __init__(self, pupil: Pupil, scale: int, shown: str, column: str) -> None:
        """`shown` is `lr` or `restored`, `column` where the teacher's answers are."""
        super().__init__()
        self.columns = frozenset({"lr", shown, column})
        self.scale, self.shown, self.pupil = scale, shown, pupil
        self.learns = pupil.adapt()

    def forward(self, batch: "Batch", noise: "Noise") -> dict[str, Tensor]:
        """The pupil's losses; nothing is drawn."""
        if self.shown == "restored":
            assert batch.restored is not None, "the column of restored images is joined"
            images_B3HW = batch.restored
        else:
            images_B3HW = bicubic_upsample(batch.lr, self.scale)
        return self.pupil.losses(self.pupil.answers(images_B3HW), batch.features)

    def train(self, mode: bool = True) -> "Student":
        """Dropout and batch statistics stay off: what a step does must follow from its number and its samples alone."""
        super().train(mode)
        self.pupil.eval()
        return self

    def trainable(self) -> dict[str, nn.Module]:
        """What learns, under one name."""
        return {"student": self.learns}
