"""Stage features: the columns one method needs beyond the common ones."""

from collections.abc import Sequence
from functools import partial
from typing import Any, assert_never

from pipeline import layout
from pipeline.engine.build import InputRef, Sample, build_column, units_of
from pipeline.engine.executors import Executor
from spasemsr.backends.extractors import build_extractor
from spasemsr.backends.extractors.spec import ExtractorSpec
from spasemsr.cache import Cache
from spasemsr.config import MethodName, Params
from spasemsr.data.columns import FEATURES_SPASEMSR, HR
from spasemsr.data.patches import read_patches


def run(params: Params, executor: Executor, method: MethodName) -> None:
    """Extract the features of one method."""
    match method:
        case "spasemsr":
            _spasemsr(params, executor)
        case _:
            assert_never(method)


def _spasemsr(params: Params, executor: Executor) -> None:
    """SAM's image features of hr: the reference of the semantic constraint (eq. 9), training only."""
    spec = params.active.features.spasemsr.sam
    build_column(
        FEATURES_SPASEMSR,
        units_of(FEATURES_SPASEMSR, read_patches(layout.PATCHES)),
        inputs=[InputRef(HR)],
        make_worker=partial(ExtractWorker, spec),
        identity=build_extractor(spec).identity.plain(),
        params={"sam": spec.content()},
        batch_size=spec.batch_size,
        executor=executor,
        cache=Cache(),
        shards_root=layout.SHARDS,
    )


class ExtractWorker:
    """hr.png (H, W, 3) -> sam.npy (C, h, w) float16."""

    def __init__(self, spec: ExtractorSpec) -> None:
        self._extractor = build_extractor(spec)

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """Extract a batch."""
        features = self._extractor.extract([sample.inputs["hr.png"] for sample in samples])
        return [{"sam.npy": array} for array in features]
