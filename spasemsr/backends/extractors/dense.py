"""FeatureExtractor: maps by transformers' networks, one value or vector for each cell of 8 px: depth and segmentation.

Depth Anything is MegaSR's depth; SegFormer stands for SegSR's X-Decoder and MegaSR's MaskDINO, which have no
maintained implementation. A network sees the picture at its own size, enlarged to a multiple of its patches; what it
says is averaged over latent cells.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spasemsr.backends.extractors.ram_rows import DEVIATION, MEAN
from spasemsr.backends.extractors.spec import CELL, DepthSpec, SegformerFeaturesSpec, SegformerLabelsSpec
from spasemsr.backends.networks.resampled import resampled
from spasemsr.backends.networks.runtime import choose_device, compute, pixels_of
from spasemsr.backends.protocols import Array
from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8
from spasemsr.weights.pretrained import load_pretrained
from spasemsr.weights.store import locate

DEPTH_SIDE = 14  # pixels of a patch of Depth Anything
FLAT = 1e-12  # a picture all at one depth is 0 everywhere
SEGFORMER_SIDE = 32  # the coarsest stride of SegFormer


class _Dense:
    """A network run on whole pictures, one at a time."""

    channels: int

    def __init__(self, spec: DepthSpec | SegformerFeaturesSpec | SegformerLabelsSpec, device: str) -> None:
        self._folder, self._spec, self._device = locate(spec.source, spec.revision).path, spec, device

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the map of an image of this size."""
        return self.channels, height // CELL, width // CELL

    def _answers(self, image: ImageU8, multiple: int, network: Callable[[Tensor], Tensor]) -> Tensor:
        """A picture -> (1, C, h, w) float32 on the CPU, cell means of what the network says of it."""
        pixels = pixels_of([image]) / 255
        inputs = prepared(pixels, multiple)
        found = compute(network, inputs, choose_device(self._device), self._spec.precision, self._spec.kind).cpu()
        return in_cells(found, pixels)


def prepared(images_B3HW: Tensor, multiple: int) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> whole cells of them, normalised, enlarged to sides that `multiple` divides."""
    height, width = (side // CELL * CELL for side in images_B3HW.shape[2:])
    if not height or not width:
        raise ValueError(f"an image of {images_B3HW.shape[3]}x{images_B3HW.shape[2]} has no cell of {CELL} px")
    mean, deviation = (torch.tensor(v, device=images_B3HW.device).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    size = [-(-side // multiple) * multiple for side in (height, width)]
    normed = (images_B3HW[:, :, :height, :width] - mean) / deviation
    return functional.interpolate(normed, size=size, mode="bilinear", antialias=True)


def in_cells(found_BCxy: Tensor, images_B3HW: Tensor) -> Tensor:
    """What a network says of images -> (B, C, h, w), means of their cells."""
    cells = (images_B3HW.shape[2] // CELL, images_B3HW.shape[3] // CELL)
    finer = found_BCxy.shape[2] > cells[0]
    bilinear = partial(functional.interpolate, mode="bilinear", antialias=finer, align_corners=False)
    return resampled(bilinear, found_BCxy, cells)


class Depth(_Dense):
    """float16 (1, H / 8, W / 8) in [0, 1]: relative depth, 1 is the nearest cell of the picture."""

    channels = 1

    def __init__(self, spec: DepthSpec, device: str = "auto") -> None:
        super().__init__(spec, device)

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> float16 (1, H // 8, W // 8)."""
        return [self._stretched(self._answers(image, DEPTH_SIDE, self._network)[0]) for image in images]

    def _network(self, inputs_B3HW: Tensor) -> Tensor:
        return self._model(inputs_B3HW).predicted_depth.unsqueeze(1)

    def _stretched(self, depth_1hw: Tensor) -> Array:
        low, high = depth_1hw.min(), depth_1hw.max()
        return ((depth_1hw - low) / (high - low).clamp_min(FLAT)).numpy().astype(np.float16)

    @cached_property
    def _model(self) -> Any:
        from transformers import DepthAnythingForDepthEstimation

        return load_pretrained(DepthAnythingForDepthEstimation, self._folder).to(choose_device(self._device))


class _Segformer(_Dense):
    @cached_property
    def _model(self) -> Any:
        from transformers import SegformerForSemanticSegmentation

        return load_pretrained(SegformerForSemanticSegmentation, self._folder).to(choose_device(self._device))


class SegformerLabels(_Segformer):
    """uint8 (1, H / 8, W / 8): the most likely class of each cell."""

    def __init__(self, spec: SegformerLabelsSpec, device: str = "auto") -> None:
        super().__init__(spec, device)
        self.channels = 1
        self._classes = spec.classes

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> uint8 (1, H // 8, W // 8)."""
        self._require_classes()
        logits = (self._answers(image, SEGFORMER_SIDE, lambda x: self._model(x).logits) for image in images)
        return [found[0].argmax(0, keepdim=True).numpy().astype(np.uint8) for found in logits]

    def _require_classes(self) -> None:
        if self._model.config.num_labels != self._classes:
            raise UserError(
                f"segformer states {self._classes} classes, but {self._folder} has {self._model.config.num_labels}.",
                "State the checkpoint's own number of classes in params.yaml.",
            )


class SegformerFeatures(_Segformer):
    """float16 (C, H / 8, W / 8): what SegFormer's head fuses of its four levels, before it decides on classes."""

    def __init__(self, spec: SegformerFeaturesSpec, device: str = "auto") -> None:
        super().__init__(spec, device)
        self.channels = spec.channels

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> float16 (C, H // 8, W // 8)."""
        found = [self._answers(image, SEGFORMER_SIDE, self._network)[0] for image in images]
        return [features.numpy().astype(np.float16) for features in found]

    def _network(self, inputs_B3HW: Tensor) -> Tensor:
        """The classifier's input: its 1x1 conv is stepped over."""
        head, seen = self._model.decode_head, []
        hook = head.classifier.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
        try:
            self._model(inputs_B3HW)
        finally:
            hook.remove()
        (fused,) = seen
        if fused.shape[1] != self.channels:
            raise UserError(
                f"segformer_features states {self.channels} channels, but {self._folder} has {fused.shape[1]}.",
                "State the checkpoint's own decoder_hidden_size in params.yaml.",
            )
        return fused
