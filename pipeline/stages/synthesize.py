"""Stage synthesize: hr -> column lr, degraded variants and every parameter that was drawn for them."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from pipeline import layout
from pipeline.engine.build import InputRef, Sample, build_column, units_of
from pipeline.engine.executors import Executor
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data.columns import HR, LR
from spasemsr.data.degradation import degrade_variant
from spasemsr.data.patches import Patch, read_patches
from spasemsr.data.spec import DegradationSpec
from spasemsr.pixels import ImageU8


def run(params: Params, executor: Executor) -> None:
    """Degrade each training patch `variants` times and each validation patch once."""
    patches = read_patches(layout.PATCHES)
    spec = params.degradation.model_copy(update={"usm_target": False})  # ingest has sharpened hr already
    build_column(
        LR,
        units_of(LR, patches, variants=params.active.data.variants),
        inputs=[InputRef(HR)],
        make_worker=partial(DegradeWorker, spec, params.scale, params.seed),
        identity={"kind": "realesrgan", "version": 1, "revision": f"basicsr-{version('basicsr')}"},
        params={"degradation": spec.content(), "scale": params.scale},
        batch_size=1,
        executor=executor,
        cache=Cache(),
        shards_root=layout.SHARDS,
        seed_inputs=partial(_draw, params.seed),
    )


def _draw(seed: int, patch: Patch, variant: int | None) -> list[Any]:
    return [seed, patch.key, variant]


class DegradeWorker:
    """`degrade`, one seed per (patch, variant)."""

    def __init__(self, spec: DegradationSpec, scale: int, seed: int) -> None:
        self._spec, self._scale, self._seed = spec, scale, seed

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """hr.png -> {"lr.png": (H/s, W/s, 3) uint8, "degradation.json": the trace}."""
        return [self._degrade(sample.inputs["hr.png"], sample.patch, sample.variant or 0) for sample in samples]

    def _degrade(self, hr: ImageU8, patch: Patch, variant: int) -> dict[str, Any]:
        degraded = degrade_variant(hr, self._spec, self._scale, self._seed, patch.key, variant)
        return {"lr.png": degraded.lr, "degradation.json": degraded.trace}
