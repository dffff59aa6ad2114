"""The training step of SeeSR, SegSR and MegaSR on tensors without contents: what `spasemsr plan` counts.

The method itself is run, between frozen parts that take no work: latents and text are columns or cheap, so a stand-in
gives tensors of their shapes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from spasemsr.backends.autoencoder.spec import DOWNSCALE
from spasemsr.backends.protocols import TextStates
from spasemsr.data.dataset import Batch, Objects
from spasemsr.methods.face import Ingredients, Traced
from spasemsr.methods.noise import Noise
from spasemsr.methods.shown import ShownFeatures

if TYPE_CHECKING:
    from spasemsr.methods.guided import GuidedDiffusion


class GuidedTraced(Traced):
    """A method with its real network."""

    def __init__(
        self, given: Ingredients, features: ShownFeatures, around: "Callable[[dict[str, Any]], GuidedDiffusion]"
    ) -> None:
        """`around` builds the method around its frozen parts, an autoencoder and a text encoder."""
        self._given, self._features = given, features
        text_encoder = _Text(*given.text_encoder.states)
        self.method = around({"autoencoder": _Latents(given.autoencoder.channels), "text_encoder": text_encoder})
        self.network = self.method.network

    def trainable(self) -> dict[str, nn.Module]:
        """All that is not frozen."""
        return self.network.trainable()

    def checkpoint(self, on: bool) -> None:
        """Position by position."""
        self.network.gradient_checkpointing = on

    def loss(self, samples: int) -> Tensor:
        """All losses of the method."""
        return sum(self.method(self._batch(samples), Noise(0, 0)).values())

    def _batch(self, samples: int) -> Batch:
        side, given = self._given.patch, self._given
        cells, channels = side // DOWNSCALE, given.autoencoder.channels
        specs = {**self._features.shown, **self._features.target}
        nothing = Objects([], np.zeros((0, 4), np.float32), [], "")
        return Batch(
            keys=[str(index) for index in range(samples)],
            lr=torch.zeros(samples, 3, side // given.scale, side // given.scale),
            objects=[nothing] * samples,
            captions=[],
            moments=torch.zeros(samples, 2 * channels, cells, cells),
            features={name: torch.zeros(samples, *spec.shape(side)) for name, spec in specs.items()},
            hr=None,
            restored=torch.zeros(samples, 3, side, side),
        )


class _Latents:
    """An autoencoder in shape alone."""

    downscale, scaling_factor = DOWNSCALE, 1.0

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def moments(self, images_B3HW: Tensor) -> Tensor:
        height, width = (side // DOWNSCALE for side in images_B3HW.shape[2:])
        return torch.zeros(len(images_B3HW), 2 * self.channels, height, width)


class _Text:
    """A text encoder in shape alone."""

    def __init__(self, length: int, width: int) -> None:
        self.length, self.width = length, width

    def encode(self, texts: list[str]) -> Any:
        return TextStates(torch.zeros(len(texts), self.length, self.width), torch.ones(len(texts), self.length))
