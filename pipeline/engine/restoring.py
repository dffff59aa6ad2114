"""A trained method over the evaluation split: each picture once, by as many workers as there are, then from the cache.

Every worker holds the method on its own device. Pictures travel through the sample cache, so a killed stage goes on
where it was, and the stage that asked reads them in whatever order it likes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.executors import Executor
from pipeline.engine.failures import Failed
from spasemsr.cache import Cache
from spasemsr.data.columns import Column
from spasemsr.data.dataset import Batch, Dataset
from spasemsr.determinism import pin_threads
from spasemsr.diffusion.spec import Precision, SampleSpec
from spasemsr.errors import UserError
from spasemsr.evaluation.restoration import SPLIT, CachedRestoration
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
    folder: Path, shards: Path, columns: dict[str, Column], cache: Cache, precision: Precision
) -> "TrainedMethod":
    """The method of a folder on this process's device, with the samples of the evaluation split that it reads."""
    from spasemsr.backends.networks.runtime import choose_device
    from spasemsr.methods.folder import load_method

    config = read_model_config(folder)
    pin_threads()
    method = load_method(folder, config)
    # The paper's models ask for a GPU; what was trained on a laptop runs anywhere.
    method = method.to(choose_device("auto" if config.inference.profile == "foundation" else "any")).eval()
    dataset = Dataset(shards, [columns[name] for name in sorted(method.restore_columns)], SPLIT)
    restore = CachedRestoration(method, cache, made_of(config, folder), precision)
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
        return at_dial(batch, self.config, dial) if self.restorer_dials else batch


def restore_ahead(
    wanted: Sequence[ToRestore], executor: Executor, folder: Path, shards: Path, columns: dict[str, Column],
    cache: Cache, precision: Precision, stage: str,
) -> None:  # fmt: skip
    """Have these pictures in the cache, by the executor's workers. One worker does nothing: it restores when asked.

    Raises UserError for a picture that could not be restored, with the worker's own words.
    """
    if executor.workers == 1:
        return
    progress = Progress(stage, len(wanted), unit="pictures")
    make = partial(_Handler, folder.absolute(), shards.absolute(), columns, cache, precision)
    for one, result in executor.map(make, wanted):
        if isinstance(result, Failed):
            remedy = result.remedy or "Finished pictures are kept: run the stage again."
            raise UserError(f"{stage}: {one.key} could not be restored: {result.what}\n{result.trace}".strip(), remedy)
        progress.advance()
    progress.close()


class _Handler:
    """A worker's own copy of the method, which puts what it restores into the cache."""

    def __init__(
        self, folder: Path, shards: Path, columns: dict[str, Column], cache: Cache, precision: Precision
    ) -> None:
        self._trained = restoration(folder, shards, columns, cache, precision)

    def __call__(self, one: ToRestore) -> None:
        self._trained.restore(self._trained.batch(one.key, one.dial), one.seed, one.sample)
