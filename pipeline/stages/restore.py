"""Stage restore: lr -> column restored, the degradation removal module's output."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pipeline import layout
from pipeline.engine.build import InputRef, Sample, build_column, units_of
from pipeline.engine.executors import Executor
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import RestorerSpec
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import LR, columns_of
from spasemsr.data.patches import read_patches


def run(params: Params, executor: Executor) -> None:
    """Clean and enlarge lr: of evaluation for Grounded-SAM, of training too for a model whose `input` is `restored`."""
    spec, column = params.active.restore, columns_of(params.active.model.input)["restored"]
    build_column(
        column,
        units_of(column, read_patches(layout.PATCHES), params.active.data.variants),
        inputs=[InputRef(LR)],
        make_worker=partial(RestoreWorker, spec, params.scale),
        identity=build_restorer(spec).identity.plain(),
        params={"restore": spec.content(), "scale": params.scale},
        batch_size=spec.batch_size,
        executor=executor,
        cache=Cache(),
        shards_root=layout.SHARDS,
    )


class RestoreWorker:
    """lr.png (h, w, 3) -> restored.png (h s, w s, 3)."""

    def __init__(self, spec: RestorerSpec, scale: int) -> None:
        self._restorer, self._scale = build_restorer(spec), scale

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Restore a batch."""
        restored = self._restorer.restore([sample.inputs["lr.png"] for sample in samples], self._scale)
        return [{"restored.png": image} for image in restored]
