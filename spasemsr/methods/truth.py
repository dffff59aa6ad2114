"""Conditions found on hr instead of lr: the state "truth" of an audit."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spasemsr.backends.grounding import build_detector, build_tagger
from spasemsr.backends.grounding.select import select
from spasemsr.backends.grounding.spec import GroundSpec, with_what_is_here
from spasemsr.data.dataset import Batch, Objects
from spasemsr.pixels import ImageU8, to_tensor

if TYPE_CHECKING:
    from spasemsr.methods.protocol import Method


class Truth:
    """What a profile's own grounding and the method's own extractors find on hr."""

    def __init__(self, method: "Method", spec: GroundSpec) -> None:
        """Tagger and detector are built where the method has tags among its conditions.

        As in stage ground, palette and components serve where the package of a kind is not installed.
        """
        self._method, self._spec = method, with_what_is_here(spec)
        if "tags" in method.conditions:
            self._tagger, self._detector = build_tagger(self._spec.tagger), build_detector(self._spec.detector)

    def of(self, batch: Batch, hr: ImageU8) -> Batch:
        """The batch of one with conditions found on hr, (H, W, 3), instead of lr."""
        if self._method.condition_features:
            batch = self._method.seeing(batch, to_tensor(hr).contiguous())
        if "tags" not in self._method.conditions:
            return batch
        tags = self._tagger.tag([hr])
        boxes = select(self._detector.detect([hr], tags)[0], self._spec)
        corners = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
        objects = Objects([box.tag for box in boxes], corners, [box.score for box in boxes], "hr")
        return replace(batch, objects=[objects])
