"""Features of what a network is shown of lr: the column a method learns from, and the same when restoring a picture.

What is shown is lr enlarged by bicubic, or the restorer's image. Training and evaluation read features from the
column, where they are made once; a picture that is in no column has them made here, by the same extractors. A column
may also hold features of hr, as targets: those do not depend on the degradation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors.spec import AnyExtractorSpec, identity_of
from spasemsr.data.columns import HR, LR, RESTORED, Column
from spasemsr.data.dataset import Batch
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.data.patches import Patch
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor

RATE = 60.0  # samples a second of one core at 128 px, for the embedded extractors together


@dataclass(frozen=True)
class ShownFeatures:
    """Which features a method reads: `shown` of what the network is shown, `target` of hr, by name.

    `input` is `lr` or `restored`, `scale` the factor from lr to hr.
    """

    shown: Mapping[str, AnyExtractorSpec]
    target: Mapping[str, AnyExtractorSpec]
    input: str
    scale: int

    def job(self, column: Column, side: int, variants: int) -> ColumnJob:
        """How the column is made; `side` are the pixels of a training patch of hr, for planning."""
        specs = {**self.shown, **self.target}
        seen = RESTORED if self.input == "restored" else LR
        return ColumnJob(
            column,
            inputs=(InputRef(seen), *([InputRef(HR)] if self.target else [])),
            worker=partial(FeatureWorker, self),
            identity=lambda: {name: identity_of(spec) for name, spec in sorted(specs.items())},
            params={"input": self.input, "scale": self.scale, **{name: spec.content() for name, spec in specs.items()}},
            batch_size=next(iter(specs.values())).batch_size,
            variants=variants,
            seed_inputs=which_picture if self.target else None,
            backends=tuple(specs.values()),
            typical=Typical(
                rate=RATE, at=128, per_pixel=sum(2 * prod(spec.shape(side)) for spec in specs.values()) / side**2
            ),
        )

    def missing(self, batch: Batch) -> list[str]:
        """Names of what restoring reads and the batch does not hold."""
        return [name for name in self.shown if name not in batch.features]


def which_picture(patch: Patch, variant: int | None) -> list[Any]:
    """Part of a result's name in the cache: the results of hr and of the first degraded version share their inputs."""
    return ["hr" if variant is None else "shown"]


class FeatureWorker:
    """lr or its restored image -> `<name>.npy` of every shown feature; hr -> `<name>.npy` of every target."""

    def __init__(self, features: ShownFeatures) -> None:
        self._features = features
        self._shown = {name: build_extractor(spec) for name, spec in features.shown.items()}
        self._target = {name: build_extractor(spec) for name, spec in features.target.items()}

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Extract a batch; samples without a variant are of hr."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> dict[str, Any]:
        if sample.variant is None:
            chosen, picture = self._target, sample.inputs["hr.png"]
        elif self._features.input == "restored":
            chosen, picture = self._shown, sample.inputs["restored.png"]
        else:
            chosen, picture = self._shown, enlarged(sample.inputs["lr.png"], self._features.scale)
        return {f"{name}.npy": extractor.extract([picture])[0] for name, extractor in chosen.items()}


class Extractors:
    """The extractors of what is shown, each built when it is first needed: samples that columns hold need none."""

    def __init__(self, features: ShownFeatures) -> None:
        self._features = features
        self._built: dict[str, Any] = {}

    def completed(self, batch: Batch, lr_up_B3HW: Tensor) -> Batch:
        """The batch with every feature that restoring reads; `lr_up_B3HW` is what the network is shown, in [0, 1]."""
        missing = self._features.missing(batch)
        if not missing:
            return batch
        pictures = list(to_pixels(lr_up_B3HW))
        made = {name: self._extract(name, pictures).to(lr_up_B3HW.device) for name in missing}
        return replace(batch, features={**batch.features, **made})

    def of_kind(self, kind: str) -> dict[str, Any]:
        """The extractors of one kind, by the feature they make."""
        return {name: self._of(name) for name, spec in self._features.shown.items() if spec.kind == kind}

    def _extract(self, name: str, pictures: list[ImageU8]) -> Tensor:
        return torch.from_numpy(np.stack(self._of(name).extract(pictures))).float()

    def _of(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = build_extractor(self._features.shown[name])
        return self._built[name]


def enlarged(lr: ImageU8, scale: int) -> ImageU8:
    """(u, v, 3) u8 -> (H, W, 3) u8 by the project's bicubic function."""
    return to_pixels(bicubic_upsample(to_tensor(lr), scale))[0]
