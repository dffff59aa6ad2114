"""Stage restore: lr -> column restored, the degradation removal module's output."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import RestorerSpec, identity_of
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import LR
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.data.patches import read_patches
from spasemsr.methods.columns import columns_of


def job(params: Params) -> ColumnJob:
    """Clean and enlarge lr: of evaluation for Grounded-SAM, of training too where a method trains on it."""
    spec = params.active.restore
    return ColumnJob(
        columns_of(params.sections())["restored"],
        inputs=(InputRef(LR),),
        worker=partial(RestoreWorker, spec, params.scale),
        identity=partial(identity_of, spec),
        params={"restore": spec.content(), "scale": params.scale},
        batch_size=spec.batch_size,
        variants=params.active.data.variants,
        backends=(spec,),
        typical=Typical(rate=44.0, at=192, per_pixel=3 * 0.6),
    )


def run(params: Params, executor: Executor) -> None:
    """Build the column."""
    build_column(job(params), read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)


class RestoreWorker:
    """lr.png (u, v, 3) -> restored.png (scale u, scale v, 3)."""

    def __init__(self, spec: RestorerSpec, scale: int) -> None:
        self._restorer, self._scale = build_restorer(spec), scale

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Restore a batch."""
        restored = self._restorer.restore([sample.inputs["lr.png"] for sample in samples], self._scale)
        return [{"restored.png": image} for image in restored]
