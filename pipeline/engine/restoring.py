"""A trained method over the evaluation split: each picture once, by as many workers as there are, then from the cache.

Every worker holds the method on its own device. Pictures travel through the sample cache, so a killed stage goes on
where it was, and the stage that asked reads them in whatever order it likes.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.executors import Executor
from pipeline.engine.failures import Failed
from spasemsr.cache import Cache
from spasemsr.data.columns import LR, Column
from spasemsr.data.dataset import Batch, Dataset
from spasemsr.data.shards import ColumnReader
from spasemsr.determinism import pin_threads
from spasemsr.diffusion.spec import Precision, SampleSpec
from spasemsr.errors import UserError
from spasemsr.evaluation.restoration import SPLIT, CachedRestoration, in_batches
from spasemsr.methods.dialed import at_dial, restorer_dials
from spasemsr.methods.model_config import ModelConfig
from spasemsr.methods.stored import made_of, read_model_config
from spasemsr.progress import Progress

if TYPE_CHECKING:
    from spasemsr.methods.protocol import Method


@dataclass(frozen=True)
class ToRestore:
    """One picture that a stage needs: its key, the sampling, the seed of its noise, and the dial of its restorer."""

    key: str
    sample: SampleSpec
    seed: int
    dial: float = 0.5


def restoration(
    folder: Path, shards: Path, columns: dict[str, Column], cache: Cache, precision: Precision, batch_size: int = 1
) -> "TrainedMethod":
    """The method of a folder on this process's device, with the samples of the evaluation split that it reads.

    `batch_size` is how many pictures it is given at once.
    """
    from spasemsr.backends.networks.runtime import choose_device
    from spasemsr.methods.folder import load_method

    config = read_model_config(folder)
    pin_threads()
    method = load_method(folder, config)
    # The paper's models ask for a GPU; what was trained on a laptop runs anywhere.
    method = method.to(choose_device("auto" if config.inference.profile == "foundation" else "any")).eval()
    dataset = Dataset(shards, [columns[name] for name in sorted(method.restore_columns)], SPLIT)
    restore = CachedRestoration(method, cache, made_of(config, folder), precision, batch_size)
    return TrainedMethod(dataset, restore, method.num_train_timesteps, method, config)


@dataclass(frozen=True)
class TrainedMethod:
    """A trained method on its device, its description, and the evaluation samples that it reads."""

    dataset: Dataset
    restore: CachedRestoration
    num_train_timesteps: int
    method: "Method"
    config: ModelConfig

    @property
    def restorer_dials(self) -> bool:
        """Whether the dial from faithful to sharp moves the restorer, to whose image the method adds."""
        return restorer_dials(self.method, self.config)

    def batch(self, key: str, dial: float = 0.5) -> Batch:
        """A sample as its columns hold it; at another dial its lr is restored anew."""
        batch = self.dataset.batch([key])
        return at_dial(batch, self.method, self.config, dial) if self.restorer_dials else batch

    def have(self, group: Sequence[ToRestore]) -> None:
        """Have pictures of one sampling and one seed in the cache."""
        batches = [self.batch(one.key, one.dial) for one in group]
        self.restore.each(batches, group[0].seed, group[0].sample)


def restore_ahead(
    wanted: Sequence[ToRestore], own: Callable[[], TrainedMethod], executor: Executor, folder: Path, shards: Path,
    columns: dict[str, Column], cache: Cache, precision: Precision, batch_size: int, stage: str,
) -> None:  # fmt: skip
    """Have these pictures in the cache, in batches, by the executor's workers.

    One worker is this process, with the method that `own` gives; where it takes one picture at a time it does nothing,
    since it restores when asked. Raises UserError for a picture that could not be restored, with the worker's words.
    """
    alone = executor.workers == 1
    if alone and batch_size == 1:
        return
    progress, groups = Progress(stage, len(wanted), unit="pictures"), groups_of(wanted, batch_size, shards)
    if alone:
        for group in groups:
            own().have(group)
            progress.advance(len(group))
        progress.close()
        return
    make = partial(_Handler, folder.absolute(), shards.absolute(), columns, cache, precision, batch_size)
    for group, result in executor.map(make, groups):
        if isinstance(result, Failed):
            remedy = result.remedy or "Finished pictures are kept: run the stage again."
            keys = ", ".join(one.key for one in group)
            raise UserError(f"{stage}: {keys} could not be restored: {result.what}\n{result.trace}".strip(), remedy)
        progress.advance(len(group))
    progress.close()


def groups_of(wanted: Sequence[ToRestore], batch_size: int, shards: Path) -> list[tuple[ToRestore, ...]]:
    """What can be restored together: pictures of one size, sampling and seed, at most `batch_size` of them."""
    if batch_size == 1:
        return [(one,) for one in wanted]
    reader = ColumnReader(shards, LR)
    sizes = {key: reader.read(key, "lr.0.png").shape for key in dict.fromkeys(one.key for one in wanted)}
    alike: dict[object, list[ToRestore]] = {}
    for one in wanted:
        alike.setdefault((one.sample, one.seed, sizes[one.key]), []).append(one)
    return [tuple(group) for those in alike.values() for group in in_batches(those, batch_size)]


class _Handler:
    """A worker's own copy of the method, which puts what it restores into the cache; one thread computes."""

    def __init__(
        self, folder: Path, shards: Path, columns: dict[str, Column], cache: Cache, precision: Precision, size: int
    ) -> None:
        self._trained = restoration(folder, shards, columns, cache, precision, size)
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="computing", initializer=pin_threads)

    def __call__(self, group: tuple[ToRestore, ...]) -> None:
        self._computing.submit(self._trained.have, group).result()
