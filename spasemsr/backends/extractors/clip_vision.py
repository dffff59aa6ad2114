"""FeatureExtractor: the last states of a CLIP image encoder, what CISM2 of MegaSR translates for every block."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spasemsr.backends.extractors.spec import ClipVisionSpec
from spasemsr.backends.networks.runtime import choose_device, compute, pixels_of
from spasemsr.backends.protocols import Array
from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8
from spasemsr.weights.pretrained import load_pretrained
from spasemsr.weights.store import locate

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's


class ClipVision:
    """float16 (rows, width): the class token, then patches in reading order.

    The whole image is resized to the network's square, so that nothing of a wide picture is cut off.
    """

    def __init__(self, spec: ClipVisionSpec, device: str = "auto") -> None:
        self._folder, self._spec, self._device = locate(spec.source, spec.revision).path, spec, device
        self.channels = spec.hidden

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the rows of any image."""
        return self._spec.rows, self._spec.hidden

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of any sizes -> float16 (rows, width)."""
        device = choose_device(self._device)
        inputs = square(images, self._model.config.image_size, MEAN, DEVIATION)
        rows = compute(lambda x: self._model(x).last_hidden_state, inputs, device, self._spec.precision, "CLIP")
        return list(rows.cpu().numpy().astype(np.float16))

    @cached_property
    def _model(self) -> Any:
        from transformers import CLIPVisionModelWithProjection

        model = load_pretrained(CLIPVisionModelWithProjection, self._folder)
        found = (model.config.hidden_size, (model.config.image_size // model.config.patch_size) ** 2 + 1)
        if found != (self._spec.hidden, self._spec.rows):
            raise UserError(
                f"clip_vision states {self._spec.hidden} numbers in {self._spec.rows} rows, "
                f"but {self._folder} has {found[0]} in {found[1]}.",
                "State the checkpoint's own sizes in params.yaml.",
            )
        return model.to(choose_device(self._device))


def square(images: Sequence[ImageU8], side: int, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Images of any sizes -> (B, 3, side, side) float32, resized without cropping and normalised."""
    resized = [
        functional.interpolate(pixels_of([image]) / 255, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
        for image in images
    ]
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, deviation))
    return (torch.cat(resized) - shift) / scale
