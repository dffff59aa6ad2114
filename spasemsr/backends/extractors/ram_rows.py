"""FeatureExtractor: RAM's representation of an image, the soft prompt of SeeSR.

With the weights of RAM itself this is the row "RAM" of SeeSR's Table 7; with those of a student that was trained on
degraded images (DAPE), merged into the same layout, it is the paper's.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from spasemsr.backends.extractors.clip_vision import square
from spasemsr.backends.extractors.spec import RamRowsSpec
from spasemsr.backends.networks.ram import Ram, load_ram
from spasemsr.backends.networks.runtime import choose_device, compute
from spasemsr.backends.networks.spec import ram_size_of
from spasemsr.backends.protocols import Array
from spasemsr.pixels import ImageU8
from spasemsr.weights.store import locate

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by which RAM was trained


class RamRows:
    """float16 (R, K): the whole image, then its cells; the image is resized to the network's square."""

    def __init__(self, spec: RamRowsSpec, device: str = "auto") -> None:
        self._checkpoint, self._size = locate(spec.source, spec.revision), ram_size_of(spec.architecture)
        self._precision, self._device = spec.precision, device
        self.channels = self._size.width

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the rows of any image."""
        return self._size.rows, self._size.width

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of any sizes -> float16 (R, K)."""
        device = choose_device(self._device)
        inputs = square(images, self._size.image_size, MEAN, DEVIATION)
        rows = compute(self._model.represent, inputs, device, self._precision, "RAM")
        return list(rows.cpu().numpy().astype(np.float16))

    @cached_property
    def _model(self) -> Ram:
        return load_ram(self._checkpoint.path, self._size).to(choose_device(self._device))
