"""How one column is made of others, as one frozen value: the engine builds it, planning and checks read it.

A worker is what a stage contributes to the engine: it turns decoded inputs into the members of a sample. Everything
else about a column is data, stated here once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spasemsr.data.columns import ALL_SPLITS, Column, Member
from spasemsr.data.patches import Patch, Split
from spasemsr.spec import Spec


@dataclass(frozen=True)
class Sample:
    """What a worker is given: decoded inputs by base name, e.g. {"lr.png": (u, v, 3) uint8}; arrays are read-only."""

    patch: Patch
    variant: int | None
    inputs: dict[str, Any]


class Worker(Protocol):
    """Built once per process; always called with `batch_size` samples, returns {base name: value} for each.

    A method `prepare(sample)`, where a worker has one, is called for each sample before that, in the thread that read
    it and for several samples at once: what needs no model and can be remembered by the input objects.
    """

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Compute a batch."""
        ...


@dataclass(frozen=True)
class InputRef:
    """A member that samples of some splits read: of their own variant, or of variant 0 if they have none."""

    column: Column
    member: str = ""
    splits: tuple[Split, ...] = ALL_SPLITS

    @property
    def schema(self) -> Member:
        """The member; by default the column's first."""
        return self.column.member(self.member) if self.member else self.column.members[0]


@dataclass(frozen=True)
class Typical:
    """What one sample costs, for planning alone: `fixed + per_pixel * side^2` bytes for a patch of `side` pixels.

    `rate` is the number of samples that one CPU core makes in a second with the embedded backend at `at` pixels a
    side, as the accounts of this project's own default run recorded it.
    """

    rate: float
    at: int
    fixed: float = 0.0
    per_pixel: float = 0.0

    def bytes(self, side: int) -> float:
        """Bytes of a sample's members, without the headers of the tar."""
        return self.fixed + self.per_pixel * side**2

    def seconds(self, side: int) -> float:
        """Seconds of one core for a sample; time grows with the area."""
        return (side / self.at) ** 2 / self.rate


@dataclass(frozen=True)
class ColumnJob:
    """Everything that can change a byte of a column, and what planning needs to know about it.

    `identity` says what computes the samples, as JSON-ready values, without loading weights; it raises UserError for
    weights that are not here. It enters every cache key, as do `column.version`, `params` (JSON-ready), the inputs'
    bytes, and `seed_inputs` (patch, variant), which names what else a sample depends on. `batch_size` does not: a
    network's results may differ by rounding with it, as they do between two kinds of GPU, and tuning it to a card must
    not compute everything again. `worker` must survive pickling. Training patches have `variants` variants. `backends`
    are the specs of the models that run.
    """

    column: Column
    inputs: tuple[InputRef, ...]
    worker: Callable[[], Worker]
    identity: Callable[[], Any]
    params: Any
    batch_size: int = 1
    variants: int = 1
    seed_inputs: Callable[[Patch, int | None], list[Any]] | None = None
    backends: tuple[Spec, ...] = ()
    typical: Typical | None = None
