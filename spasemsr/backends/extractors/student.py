"""FeatureExtractor: a small student that stage `adapt` trained, in the place of the extractor it learnt from."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from spasemsr.backends.extractors.spec import CELL, AnyStudentSpec, StudentLabelsSpec, StudentMapSpec, StudentRowsSpec
from spasemsr.backends.networks.runtime import choose_device, compute, pixels_of
from spasemsr.backends.networks.small_student import SmallStudent, places, small_student
from spasemsr.backends.protocols import Array
from spasemsr.pixels import ImageU8
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import load_strictly, read_state_dict


class Student:
    """Answers of the teacher's shape and type; a small network, for any device."""

    def __init__(self, spec: AnyStudentSpec, device: str = "any") -> None:
        self._spec, self._device, self._path = spec, device, locate(spec.source, spec.revision).path
        self.channels = spec.shape(CELL)[-1 if isinstance(spec, StudentRowsSpec) else 0]

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the answer for an image of this size."""
        rows = isinstance(self._spec, StudentRowsSpec)
        return self._spec.shape(CELL) if rows else (self.channels, height // CELL, width // CELL)

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> arrays as the teacher makes them."""
        return [self._answer(self._output(pixels_of([image]) / 255)[0]) for image in images]

    def shares(self, images: Sequence[ImageU8]) -> list[Array]:
        """Of labels: how sure it is of each, float32 (K, h, w) that sum to 1 in every cell."""
        return [self._output(pixels_of([image]) / 255)[0].softmax(0).numpy() for image in images]

    def _output(self, images_B3HW: Tensor) -> Tensor:
        device = choose_device(self._device)
        with torch.inference_mode():
            return compute(self._network, images_B3HW, device, self._spec.precision, self._spec.kind).cpu()

    def _answer(self, output: Tensor) -> Array:
        match self._spec:
            case StudentMapSpec():
                return output.sigmoid().numpy().astype(np.float16)
            case StudentLabelsSpec():
                return output.argmax(0, keepdim=True).numpy().astype(np.uint8)
        return torch.cat([output, places(self._spec.of.grid)], dim=1).numpy().astype(np.float16)

    @cached_property
    def _network(self) -> SmallStudent:
        network = small_student(self._spec)
        load_strictly(network, read_state_dict(self._path, "Run: dvc repro adapt"), str(self._path))
        return network.eval().requires_grad_(False).to(choose_device(self._device))
