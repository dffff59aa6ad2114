"""Restoring the evaluation split, for every stage that looks at results: each image once, then from the sample cache.

An image is kept by everything it is made of, so a killed stage goes on where it was, and scoring with another metric or
drawing another map restores nothing again. Images of one size may share a call of the network; how many do is no part
of what names them, since each has its own noise and conditions: in float32 that changes rounding alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from spasemsr.cache import Cache
from spasemsr.data.dataset import Batch, Objects, joined
from spasemsr.data.patches import Split
from spasemsr.diffusion.spec import Precision, SampleSpec
from spasemsr.hashing import fingerprint
from spasemsr.methods.noise import Noise
from spasemsr.pixels import ImageU8, png_bytes, to_pixels

if TYPE_CHECKING:
    import torch

    from spasemsr.methods.protocol import Method

T = TypeVar("T")
SPLIT: Split = "val"
VERSION = 3  # of restored images: bump it when the same weights and inputs give other pixels
SAID_VERSION = 4  # of those about which a person says something


class CachedRestoration:
    """Batch of one -> (H, W, 3) uint8, from the cache where the same model restored the same sample before.

    `made_of` is all that makes the method what it is, its weights included. The batch follows the method to its device;
    a GPU's pictures and a CPU's are kept apart. The network is called with `batch_size` pictures, always: a call with
    fewer is filled up, since a network's bits may change with the size of a batch, but not with the neighbours in it.
    """

    def __init__(
        self, method: Method, cache: Cache, made_of: list[Any], precision: Precision = "fp32", batch_size: int = 1
    ) -> None:
        import torch

        self._method, self._cache, self._precision, self._batch_size = method, cache, precision, batch_size
        first = next(method.parameters(), None)
        self._device = torch.device("cpu") if first is None else first.device
        self._made_of = [*made_of, precision, self._device.type]

    def __call__(self, batch: Batch, seed: int, sampling: SampleSpec) -> ImageU8:
        """Restore one sample, which holds the columns that the method restores from."""
        return self.each([batch], seed, sampling)[0]

    def each(self, batches: Sequence[Batch], seed: int, sampling: SampleSpec) -> list[ImageU8]:
        """Restore samples, batches of one; those of equal sizes together, as many at once as `batch_size` says."""
        names = [self._name(batch, seed, sampling) for batch in batches]
        found = {name: _decoded(stored) for name in names if (stored := self._cache.get(name)) is not None}
        alike: dict[Hashable, dict[str, Batch]] = {}
        for name, batch in zip(names, batches, strict=True):
            if name not in found:
                alike.setdefault(_sizes(batch), {})[name] = batch
        for those in alike.values():
            for group in in_batches(list(those), self._batch_size):
                pictures = self._restored([those[name] for name in group], seed, sampling)
                for name, picture in zip(group, pictures, strict=True):
                    self._cache.put(name, png_bytes(picture), "evaluate")
                    found[name] = picture
        return [found[name] for name in names]

    def _restored(self, batches: Sequence[Batch], seed: int, sampling: SampleSpec) -> list[ImageU8]:
        import torch

        device, lacking = self._device, self._batch_size - len(batches)
        batch = joined([*batches, *[batches[-1]] * lacking]).to(device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self._precision == "bf16"):
            return list(to_pixels(self._method.restore(batch, Noise(seed, 0), sampling)))[: len(batches)]

    def _name(self, batch: Batch, seed: int, sampling: SampleSpec) -> str:
        conditions = {
            "objects": _plain(batch.objects),
            "captions": batch.captions,
            "images": [_digest(batch.lr), _digest(batch.restored)],
            "features": {name: _digest(value) for name, value in batch.features.items()},
        }
        if batch.said:  # the names of all other pictures are older than this
            conditions["said"] = [SAID_VERSION, sampling.emphasis, _plain(batch.said)]
        return fingerprint(["restored image", VERSION, self._made_of, sampling.plain(), seed, batch.keys, conditions])


def _plain(found: Sequence[Objects]) -> list[Any]:
    return [[objects.tags, objects.boxes.tolist() if objects.located else None, objects.scores] for objects in found]


def in_batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Items in runs of `size`, the last of which may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _decoded(stored: bytes) -> ImageU8:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _sizes(batch: Batch) -> Hashable:
    """What must be equal for samples to share a call."""
    return tuple(batch.lr.shape), tuple((name, tuple(value.shape)) for name, value in sorted(batch.features.items()))


def _digest(images_BCHW: torch.Tensor | None) -> str:
    return "" if images_BCHW is None else hashlib.sha256(images_BCHW.contiguous().numpy().tobytes()).hexdigest()
