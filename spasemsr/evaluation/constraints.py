"""How far parts of a network are from what its own loss holds them to, on pictures it has not learned from.

SpaSemSR's ControlNet is held to hr twice (eq. 9): one half of what it adds to the latents of hr, which is structure,
the other to features of hr, which is semantics. Lambda says how much each counts, and no picture need show it. An error
is eq. 9's own distance, summed over layers, over the mean size of what is compared with: 0 is hr itself, 1 is what a
network that says nothing would get. The divisor is hr's alone, so that errors of two trainings compare.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from spasemsr.backends.protocols import FeatureExtractor
from spasemsr.data.dataset import Batch
from spasemsr.diffusion.spec import Precision, SampleSpec
from spasemsr.evaluation.conditions import refeatured
from spasemsr.evaluation.scores import finite
from spasemsr.methods.noise import Noise
from spasemsr.pixels import ImageU8, to_tensor

if TYPE_CHECKING:
    from spasemsr.methods.protocol import Method


class ConstraintErrors:
    """Errors of pictures that are added one by one; none for a method without constraints."""

    def __init__(
        self,
        method: "Method",
        extractors: Mapping[str, FeatureExtractor],
        seed: int,
        sampling: SampleSpec,
        precision: Precision = "fp32",
    ) -> None:
        """`extractors` make the features of hr that `method.constraints` names.

        A picture's noise is that of its key and `seed`; of `sampling` the words beside tags are read.
        """
        self._method, self._extractors, self._sampling, self._precision = method, extractors, sampling, precision
        self._noise = Noise(seed, 0)
        self._distances: dict[str, dict[str, float]] = {}  # by key and name
        self._sizes: dict[str, list[float]] = {name: [] for name in method.constraints}

    @property
    def names(self) -> tuple[str, ...]:
        """What the errors are called in tables of scores."""
        return tuple(f"{name}_error" for name in self._method.constraints)

    def add(self, batch: Batch, hr: ImageU8) -> None:
        """A picture, as a batch of one with what the method restores from, and its hr, (H, W, 3)."""
        found = self._read_off(batch, hr) if self._method.constraints else {}
        self._distances[batch.keys[0]] = {
            name: sum(_mean(said - own) for said, own in pairs) for name, pairs in found.items()
        }
        for name, pairs in found.items():
            self._sizes[name].append(sum(_mean(own) for _, own in pairs))

    def errors(self) -> dict[str, dict[str, float]]:
        """By key and name; their means over pictures are the errors of the set."""
        sizes = {name: float(np.mean(values)) for name, values in self._sizes.items()}
        return {
            key: {
                f"{name}_error": finite(far / sizes[name], f"{name}_error of {key}") for name, far in distances.items()
            }
            for key, distances in self._distances.items()
        }

    def _read_off(self, batch: Batch, hr: ImageU8) -> Mapping[str, Sequence[tuple[torch.Tensor, torch.Tensor]]]:
        features = {
            name: torch.from_numpy(np.asarray(extractor.extract([hr])[0], np.float32))[None]
            for name, extractor in self._extractors.items()
        }
        device = next(self._method.parameters()).device
        seen, truth = refeatured(batch, features).to(device), to_tensor(hr).to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            return self._method.read_off(seen, truth, self._noise, self._sampling)


def _mean(values_BChw: torch.Tensor) -> float:
    return float(values_BChw.abs().mean())
