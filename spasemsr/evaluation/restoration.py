"""Restoring the evaluation split, for every stage that looks at results: each image once, then from the sample cache.

An image is kept by everything it is made of, so a killed stage goes on where it was, and scoring with another metric or
drawing another map restores nothing again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from spasemsr.cache import Cache
from spasemsr.data.dataset import Batch
from spasemsr.data.patches import Split
from spasemsr.diffusion.spec import Precision, SampleSpec
from spasemsr.hashing import fingerprint
from spasemsr.methods.noise import Noise
from spasemsr.pixels import ImageU8, png_bytes, to_pixels

if TYPE_CHECKING:
    import torch

    from spasemsr.methods.protocol import Method

SPLIT: Split = "val"
VERSION = 3  # of restored images: bump it when the same weights and inputs give other pixels


class CachedRestoration:
    """Batch of one -> (H, W, 3) uint8, from the cache where the same model restored the same sample before.

    `made_of` is all that makes the method what it is, its weights included. The batch follows the method to its device;
    a GPU's pictures and a CPU's are kept apart.
    """

    def __init__(self, method: Method, cache: Cache, made_of: list[Any], precision: Precision = "fp32") -> None:
        import torch

        self._method, self._cache, self._precision = method, cache, precision
        first = next(method.parameters(), None)
        self._device = torch.device("cpu") if first is None else first.device
        self._made_of = [*made_of, precision, self._device.type]

    def __call__(self, batch: Batch, seed: int, sampling: SampleSpec) -> ImageU8:
        """Restore one sample, which holds the columns that the method restores from."""
        import torch

        conditions = {
            "objects": [
                [objects.tags, objects.boxes.tolist() if objects.located else None, objects.scores]
                for objects in batch.objects
            ],
            "captions": batch.captions,
            "images": [_digest(batch.lr), _digest(batch.restored)],
            "features": {name: _digest(value) for name, value in batch.features.items()},
        }
        name = fingerprint(["restored image", VERSION, self._made_of, sampling.plain(), seed, batch.keys, conditions])
        stored = self._cache.get(name)
        if stored is not None:
            return cv2.cvtColor(cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        device = self._device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            (picture,) = to_pixels(self._method.restore(batch.to(device), Noise(seed, 0), sampling))
        self._cache.put(name, png_bytes(picture), "evaluate")
        return picture


def _digest(images_BCHW: torch.Tensor | None) -> str:
    return "" if images_BCHW is None else hashlib.sha256(images_BCHW.contiguous().numpy().tobytes()).hexdigest()
