"""Columns joined by key -> batches for training and evaluation.

The join is strict: a key that one column lacks stops it by name. Only the members a batch holds are read (never
masks.png, for instance), by offset. In training a sample's variant is drawn from (seed, epoch, key); evaluation takes
variant 0. B batch, H W pixels of hr, u v pixels of lr, C latent channels, f the autoencoder's factor, N objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spasemsr.data.columns import LR, Column
from spasemsr.data.order import Draw, SampleOrder
from spasemsr.data.patches import Split
from spasemsr.data.shards import ColumnReader, lacking_keys
from spasemsr.errors import UserError
from spasemsr.pixels import to_tensor
from spasemsr.randomness import derive_seed

if TYPE_CHECKING:  # it takes seconds to import, and a stage says what it will do before the first batch
    import torch
    from torch import Tensor

# Members that no batch holds: for people, and for later methods.
NOT_IN_BATCH = frozenset(("masks.png", "degradation.json"))


@dataclass(frozen=True)
class Objects:
    """What was grounded in one image: boxes (N, 4) float32 x0 y0 x1 y1 in [0, 1], best score first.

    `located` False: the tags are given without their places.
    """

    tags: list[str]
    boxes: npt.NDArray[np.float32]
    scores: list[float]
    source: str
    located: bool = True


@dataclass(frozen=True)
class Batch:
    """What methods are given; a column that was not joined is None, or an empty list or dict.

    lr (B, 3, u, v), hr and restored (B, 3, H, W) in [0, 1], moments (B, 2C, H/f, W/f), features by stem ("sam":
    (B, C, h, w)), all float32. `said` are the objects as a person corrects them, for every sample or none.
    """

    keys: list[str]
    lr: Tensor
    objects: list[Objects]
    captions: list[str]
    moments: Tensor | None
    features: dict[str, Tensor]
    hr: Tensor | None
    restored: Tensor | None = None
    said: list[Objects] = field(default_factory=list)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on a device."""
        return replace(
            self,
            lr=self.lr.to(device),
            moments=None if self.moments is None else self.moments.to(device),
            features={name: tensor.to(device) for name, tensor in self.features.items()},
            hr=None if self.hr is None else self.hr.to(device),
            restored=None if self.restored is None else self.restored.to(device),
        )


class Dataset:
    """Random access to the joined samples of one split; thread-safe.

    One of the columns is lr. Raises UserError for a missing or damaged column, and for a key that not all of them hold.
    """

    def __init__(self, shards_root: Path, columns: Sequence[Column], split: Split) -> None:
        self._readers = {column.name: ColumnReader(shards_root, column) for column in columns}
        self._lr = self._readers[LR.name]
        self.digests = {name: str(reader.info["digest"]) for name, reader in sorted(self._readers.items())}
        self.keys = sorted({key for reader in self._readers.values() for key in reader.keys(split)})
        if not self.keys:
            raise UserError(f"Split {split!r} holds no samples.", "Run: dvc repro ingest")
        for reader in self._readers.values():
            self._check(reader, split)
        self.keys_by_shard = self._lr.tars(split)
        self._members = [
            (reader, member)
            for reader in self._readers.values()
            for member in reader.column.members
            if member.base not in NOT_IN_BATCH
        ]

    def batch(self, samples: Sequence[Draw | str], seed: int = 0) -> Batch:
        """The batch of these samples: a key stands for its variant 0, a draw for that of (seed, epoch, key).

        Its keys are those of the samples, and the names of draws.
        """
        draws = [(s, s, 0) if isinstance(s, str) else (s.name, s.key, self.variant(s, seed)) for s in samples]
        return collate([{**self.sample(key, variant), "key": name} for name, key, variant in draws])

    def batches(self, seed: int, size: int, held: Sequence[str] = ()) -> Callable[[int, int, int], Batch]:
        """(step, rank, world) -> that rank's share of a step of `size` samples, in the order of this seed.

        The keys `held` are in no step.
        """
        left = set(self.keys) - set(held)
        shards = {tar: [key for key in keys if key in left] for tar, keys in self.keys_by_shard.items()}
        order = SampleOrder(shards, seed, size)
        return lambda step, rank, world: self.batch(order.at(step, rank, world), seed)

    def variant(self, draw: Draw, seed: int) -> int:
        """Which degradation of a sample an epoch sees."""
        return derive_seed(seed, "variant", draw.epoch, draw.key) % self._lr.variants(draw.key)

    def sample(self, key: str, variant: int) -> dict[str, Any]:
        """One joined sample: {"key": key, member base name: decoded value}."""
        values = {member.base: reader.read(key, member.name(variant)) for reader, member in self._members}
        return {"key": key, **values}

    def _check(self, reader: ColumnReader, split: Split) -> None:
        """Every key is there, with as many variants as lr has."""
        column, lr = reader.column, self._lr
        if lacking := [key for key in self.keys if not reader.members(key)]:
            raise lacking_keys(column, split, lacking, len(self.keys))
        for key in self.keys if column.members_of(0) else []:
            if reader.variants(key) != lr.variants(key):
                counts = f"{reader.variants(key)} variants of {key}, column 'lr' {lr.variants(key)}"
                raise UserError(f"column {column.name!r} has {counts}.", column.remedy)


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of the same columns and sizes, one after the other. Raises RuntimeError for unlike sizes."""
    import torch

    def stacked(tensors: list[Tensor | None]) -> Tensor | None:
        there = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(there) if there else None

    first = batches[0]
    return (
        first
        if len(batches) == 1
        else Batch(
            keys=[key for batch in batches for key in batch.keys],
            lr=torch.cat([batch.lr for batch in batches]),
            objects=[objects for batch in batches for objects in batch.objects],
            captions=[caption for batch in batches for caption in batch.captions],
            moments=stacked([batch.moments for batch in batches]),
            features={name: torch.cat([batch.features[name] for batch in batches]) for name in first.features},
            hr=stacked([batch.hr for batch in batches]),
            restored=stacked([batch.restored for batch in batches]),
            said=joined_said(batches),
        )
    )


def new(said: Objects, found: Objects) -> npt.NDArray[np.bool_]:
    """Which of the objects said were not found, or not by that name at that place, (N,)."""
    known = {(tag, box.tobytes()) for tag, box in zip(found.tags, found.boxes, strict=True)}
    pairs = zip(said.tags, said.boxes, strict=True)
    return np.array([(tag, box.tobytes()) not in known for tag, box in pairs], bool)


def joined_said(batches: Sequence[Batch]) -> list[Objects]:
    """What is said of each sample, where of any; of the others what was found."""
    if not any(batch.said for batch in batches):
        return []
    return [objects for batch in batches for objects in batch.said or batch.objects]


def collate(samples: Sequence[dict[str, Any]]) -> Batch:
    """Samples -> one batch. Raises ValueError where arrays of one name differ in shape."""
    first = samples[0]
    known = {"key", "lr.png", "hr.png", "objects.json", "caption.json", "moments.npy", "restored.png"}
    features = [name for name in first if name not in known]
    return Batch(
        keys=[sample["key"] for sample in samples],
        lr=_stack(samples, "lr.png", _image),
        objects=[_objects(sample["objects.json"]) for sample in samples] if "objects.json" in first else [],
        captions=[sample["caption.json"]["text"] for sample in samples] if "caption.json" in first else [],
        moments=_stack(samples, "moments.npy", _array) if "moments.npy" in first else None,
        features={name.partition(".")[0]: _stack(samples, name, _array) for name in features},
        hr=_stack(samples, "hr.png", _image) if "hr.png" in first else None,
        restored=_stack(samples, "restored.png", _image) if "restored.png" in first else None,
    )


def _stack(samples: Sequence[dict[str, Any]], name: str, convert: Callable[[np.ndarray], Tensor]) -> Tensor:
    arrays = [sample[name] for sample in samples]
    if any(array.shape != arrays[0].shape for array in arrays):
        shapes = ", ".join(f"{sample['key']} {sample[name].shape}" for sample in samples[:4])
        raise ValueError(f"{name} differs in shape within a batch: {shapes}; use batches of one")
    return convert(np.stack(arrays))


def _image(pixels_BHWC: np.ndarray) -> Tensor:
    return to_tensor(pixels_BHWC).contiguous()


def _array(values: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(values).float()


def _objects(value: dict[str, Any]) -> Objects:
    boxes = np.asarray(value["boxes"], np.float32).reshape(-1, 4)
    return Objects(value["tags"], boxes, value["scores"], value["source"])
