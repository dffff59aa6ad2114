"""What is taught: a network that answers for hr as a frozen teacher, and for lr as the student it is adapted into.

B images, H W pixels of hr.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn


class Pupil(nn.Module):
    """A network, what it owes its teacher, and how it is stored. `answers` and column members have the same names."""

    @abstractmethod
    def answers(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """What it says of (B, 3, H, W) in [0, 1], differentiable."""

    @abstractmethod
    def losses(self, answers: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Named losses of its answers against the teacher's, weights applied."""

    @abstractmethod
    def adapt(self) -> nn.Module:
        """Make of the frozen network one that learns; returns what does. Called once."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Store what was learned, in the layout that the teacher's extractor reads."""
