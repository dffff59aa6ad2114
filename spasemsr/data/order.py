"""(seed, epoch) -> sample order; (step, rank, world) -> the samples of that rank.

The order is a function of the keys, the seed and the epoch. Shards are permuted, then samples within a window of
shards, so that reading stays local. A step is a slice of the endless sequence of epochs, and a rank takes a slice of
the step: neither the number of ranks nor the point of resuming can change which samples a step holds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from spasemsr.errors import UserError
from spasemsr.randomness import generator

WINDOW = 16


class Draw(NamedTuple):
    """One sample of a step: its key, the epoch, which decides the variant, and how often the step has it already."""

    key: str
    epoch: int
    again: int = 0

    @property
    def name(self) -> str:
        """What its noise is drawn from: where a step holds a sample twice, each has noise of its own."""
        return f"{self.key}+{self.again}" if self.again else self.key


def held_out(keys: Sequence[str], count: int) -> list[str]:
    """At least `count` of the keys, whole photographs of them: patches of one are too alike to judge each other.

    Raises UserError where nothing would be left to train on.
    """
    held: list[str] = []
    for _, patches in groupby(sorted(keys), lambda key: key.partition("_")[0]):  # names are hashes: any will do
        if len(held) >= count:
            break
        held += patches
    if held and len(held) == len(keys):
        raise UserError(f"train.held is {count}, and there are {len(keys)} samples.", "Lower it, or add photographs.")
    return held


def sample_order(shards: Mapping[str, Sequence[str]], seed: int, epoch: int, window: int = WINDOW) -> list[str]:
    """All keys of `shards` (keys by shard) once, in the order of this epoch; samples mix within `window` shards."""
    names = sorted(shards)
    order = [names[i] for i in generator(seed, "shard order", epoch).permutation(len(names))]
    keys: list[str] = []
    for start in range(0, len(order), window):
        mixed = sorted(key for name in order[start : start + window] for key in shards[name])
        keys += [mixed[i] for i in generator(seed, "sample order", epoch, start).permutation(len(mixed))]
    return keys


class SampleOrder:
    """The samples of every step of a training run, without state."""

    def __init__(self, shards: Mapping[str, Sequence[str]], seed: int, global_batch: int, window: int = WINDOW) -> None:
        self.size = sum(len(keys) for keys in shards.values())
        if self.size == 0:
            raise UserError("There are no samples to train on.", "Run: dvc repro ingest")
        self._global_batch = global_batch
        self._epoch = lru_cache(maxsize=2)(lambda epoch: sample_order(shards, seed, epoch, window))

    def at(self, step: int, rank: int = 0, world: int = 1) -> list[Draw]:
        """The samples of one rank at one step; ranks 0 to world - 1 in turn are the global batch.

        Raises UserError where the world size does not divide the global batch.
        """
        if self._global_batch % world:
            raise UserError(
                f"train.global_batch is {self._global_batch}, which {world} processes cannot share equally.",
                "Choose a number of processes that divides it.",
            )
        share = self._global_batch // world
        first, before, draws = step * self._global_batch, Counter[str](), []
        for position in range(first, first + self._global_batch):
            epoch, index = divmod(position, self.size)
            key = self._epoch(epoch)[index]
            draws.append(Draw(key, epoch, before[key]))
            before[key] += 1
        return draws[rank * share : (rank + 1) * share]
