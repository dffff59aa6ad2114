"""Stage features: the columns one method needs beyond the common ones."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, assert_never

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors.spec import ExtractorSpec, identity_of
from spasemsr.cache import Cache
from spasemsr.config import MethodName, Params
from spasemsr.data.columns import FEATURES_SPASEMSR, HR
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.data.patches import read_patches


def job(params: Params, method: MethodName) -> ColumnJob:
    """What one method needs."""
    match method:
        case "spasemsr":
            return _spasemsr(params)
        case _:
            assert_never(method)


def run(params: Params, executor: Executor, method: MethodName) -> None:
    """Build the column of one method."""
    build_column(job(params, method), read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)


def _spasemsr(params: Params) -> ColumnJob:
    """SAM's image features of hr: the reference of the semantic constraint (eq. 9), training only."""
    spec, side = params.active.features.spasemsr.sam, params.active.data.patch
    return ColumnJob(
        FEATURES_SPASEMSR,
        inputs=(InputRef(HR),),
        worker=partial(ExtractWorker, spec),
        identity=partial(identity_of, spec),
        params={"sam": spec.content()},
        batch_size=spec.batch_size,
        backends=(spec,),
        typical=Typical(rate=62.8, at=128, per_pixel=2 * prod(spec.shape(side)) / side**2),
    )


class ExtractWorker:
    """hr.png (H, W, 3) -> sam.npy (C, h, w) float16."""

    def __init__(self, spec: ExtractorSpec) -> None:
        self._extractor = build_extractor(spec)

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Extract a batch."""
        features = self._extractor.extract([sample.inputs["hr.png"] for sample in samples])
        return [{"sam.npy": array} for array in features]
