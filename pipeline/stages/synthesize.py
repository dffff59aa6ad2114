"""Stage synthesize: hr -> column lr, degraded variants and every parameter that was drawn for them."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

from pipeline import layout
from pipeline.engine.build import build_column
from pipeline.engine.executors import Executor
from spasemsr.cache import Cache
from spasemsr.config import Params
from spasemsr.data import area_mean
from spasemsr.data.columns import HR, LR
from spasemsr.data.degradation import VERSION, degrade_variant
from spasemsr.data.job import ColumnJob, InputRef, Sample, Typical
from spasemsr.data.patches import Patch, read_patches
from spasemsr.data.spec import AreaMeanSpec, DegradationSpec
from spasemsr.pixels import ImageU8
from spasemsr.randomness import derive_seed


def job(params: Params) -> ColumnJob:
    """Degrade each training patch `variants` times and each validation patch once."""
    plain = params.active.data.lr
    return ColumnJob(
        LR,
        inputs=(InputRef(HR),),
        **(_chain(params) if plain is None else _area_mean(params, plain)),
        variants=params.active.data.variants,
        seed_inputs=partial(_draw, params.seed),
        typical=Typical(rate=74.0, at=128, fixed=2500, per_pixel=3 * 0.8 / params.scale**2),
    )


def run(params: Params, executor: Executor) -> None:
    """Build the column."""
    build_column(job(params), read_patches(layout.PATCHES), executor, Cache(), layout.SHARDS)


def _chain(params: Params) -> dict[str, Any]:
    """The job's worker, identity and params for section `degradation`."""
    spec = params.degradation.model_copy(update={"usm_target": False})  # ingest has sharpened hr already
    return {
        "worker": partial(DegradeWorker, spec, params.scale, params.seed),
        "identity": _identity,
        "params": {"degradation": spec.content(), "scale": params.scale},
    }


def _area_mean(params: Params, spec: AreaMeanSpec) -> dict[str, Any]:
    """The same for `data.lr`."""
    return {
        "worker": partial(AreaMeanWorker, spec.noise, params.scale, params.seed),
        "identity": partial(dict, kind="area mean", version=area_mean.VERSION),
        "params": {"lr": spec.plain(), "scale": params.scale},
    }


def _identity() -> dict[str, Any]:
    return {"kind": "realesrgan", "version": VERSION, "revision": f"basicsr-{version('basicsr')}"}


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


class AreaMeanWorker:
    """`area_mean`, one seed per (patch, variant)."""

    def __init__(self, noise: float, scale: int, seed: int) -> None:
        self._noise, self._scale, self._seed = noise, scale, seed

    def __call__(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        """hr.png -> {"lr.png": (H/s, W/s, 3) uint8, "degradation.json": the trace}."""
        return [self._reduce(sample.inputs["hr.png"], sample.patch, sample.variant or 0) for sample in samples]

    def _reduce(self, hr: ImageU8, patch: Patch, variant: int) -> dict[str, Any]:
        seed = derive_seed(self._seed, "degradation", patch.key, variant)
        lr, trace = area_mean.area_mean(hr, self._scale, self._noise, seed)
        return {"lr.png": lr, "degradation.json": trace}
