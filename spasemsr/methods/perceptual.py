"""A perceptual loss of what one step makes: ST-LPIPS between it and hr, as one-step methods train (OSEDiff and others).

The squared error alone asks for the mean of all images that fit lr, which is smooth. The distance has weights of its
own, which are read when the first batch is trained on and belong to no model: restoring does not need them.
"""

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn


class PerceptualLoss:
    """(images, hr) -> weight times the sum of their ST-LPIPS over the size of the batch they are a part of."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    @cached_property
    def _network(self) -> "nn.Module":
        from spasemsr.backends.networks.stlpips import load_stlpips

        return load_stlpips()

    def __call__(self, made_N3HW: Tensor, hr_N3HW: Tensor, batch: int) -> Tensor:
        """Images in [0, 1] of N of the batch's samples -> a scalar.

        Raises UserError where the weights are not installed.
        """
        network = self._network.to(made_N3HW.device)
        with torch.autocast(made_N3HW.device.type, enabled=False):
            with torch.no_grad():
                features = network.features(hr_N3HW.float() * 2 - 1)
            return self._weight * len(made_N3HW) / batch * network(made_N3HW.float() * 2 - 1, features)
