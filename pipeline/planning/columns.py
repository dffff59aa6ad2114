"""Disk, memory and hours of each column: by its job, what accounts measured here, else recorded rates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.engine.account import Account
from pipeline.jobs import column_jobs
from pipeline.planning.counts import Counts
from pipeline.planning.recorded import ASSUMED_BANDWIDTH, ASSUMED_MFU, FP32_SHARE, MODELS, Recorded
from spasemsr.config import Params, ProfileName
from spasemsr.data.job import ColumnJob
from spasemsr.spec import WeightsSpec
from spasemsr.training.devices import Device, known_device

_TAR = 768  # bytes of header and padding per member, on average
_AT_ENDPOINT = 64  # requests that an engine answers together
_RECORDED = "recorded, not measured in this folder"


@dataclass(frozen=True)
class ColumnCost:
    """One column: results, bytes of all in its tars, seconds of one device per result, GB of memory, and says who.

    `on_gpu` is whether the seconds are a GPU's; `memory` is None where no network runs. `origin` says where the rate is
    from, `sources` who recorded it.
    """

    column: str
    units: int
    bytes: int
    seconds: float
    on_gpu: bool
    memory: int | None
    origin: str
    sources: tuple[str, ...] = ()

    @property
    def hours(self) -> float:
        """Of one device."""
        return self.units * self.seconds / 3600


def column_costs(
    params: Params, name: ProfileName, counts: Counts, gpu: Device | None, accounts: Mapping[str, Account]
) -> Iterator[ColumnCost]:
    """Every column of the profile `name` in the order of stages; `accounts` are those of this workspace, by column."""
    measured_at = params.active.data.patch  # of the profile that runs in this workspace
    for job in column_jobs(params.model_copy(update={"profile": name})):
        account = accounts.get(job.column.name)
        fits = account is not None and account.rate > 0 and account.params == job.params
        yield _cost(job, counts, gpu, account if fits else None, measured_at)


def _cost(job: ColumnJob, counts: Counts, gpu: Device | None, account: Account | None, measured_at: int) -> ColumnCost:
    """`account` is of the same models and settings; its rate was measured on patches of `measured_at` pixels."""
    typical, name, units = job.typical, job.column.name, counts.units(job.column)
    assert typical is not None, name
    size = units * round(typical.bytes(counts.patch) + _TAR * len(job.column.members))
    models = _models(job)
    memory = _memory(models, job.batch_size) if models else None
    if account is not None:
        scale = (counts.patch / measured_at) ** 2
        rate = account.rate / account.workers / scale
        origin = f"measured here ({account.rate:.3g}/s with {account.workers} workers"
        origin += f" at {measured_at} px, scaled by area)" if scale != 1 else ")"
        return ColumnCost(name, units, size, 1 / rate, bool(models) and gpu is not None, memory, origin)
    if models:
        seconds = sum(_recorded_seconds(model, spec, job.batch_size, gpu, counts) for model, spec in models)
        sources = tuple(dict.fromkeys(model.source for model, _ in models))
        return ColumnCost(name, units, size, seconds, True, memory, _RECORDED, sources)
    source = f"{name}: {typical.rate:g} results/s of one core at {typical.at} px, this project's default run"
    sources = (f"{source}; scaled by area",)
    return ColumnCost(name, units, size, typical.seconds(counts.patch), False, None, _RECORDED, sources)


def _models(job: ColumnJob) -> list[tuple[Recorded, WeightsSpec]]:
    """The networks a column's stage runs, with their specs; none for embedded backends."""
    specs = [spec for spec in job.backends if isinstance(spec, WeightsSpec)]
    return [(model, spec) for spec in specs if (model := recorded_for(spec)) is not None]


def recorded_for(spec: Any) -> Recorded | None:
    """What is recorded of a backend's model; a checkpoint of the user's counts as the usual one of its kind."""
    usual = {
        "llava": "llava-1.5-7b",
        "grounding_dino": "grounding-dino-base",
        "spandrel": "restorer",
        "autoencoder_kl": "autoencoder",
        "clip": "clip",
        "ram": "ram-swin-large",
        "clip_vision": "clip-vit-h-image",
        "depth_anything": "depth-anything-v2-large",
        "segformer": "segformer-b2-ade",
        "segformer_features": "segformer-b2-ade",
    }
    if spec.kind == "sam":
        return MODELS.get(f"sam-{spec.architecture}".replace("_", "-"), MODELS["sam-vit-b"])
    return MODELS.get(spec.source) or MODELS.get(usual.get(spec.kind, ""))


def _memory(models: list[tuple[Recorded, WeightsSpec]], batch: int) -> int:
    """Weights of all, the batch of the largest, and CUDA's own; LLaVA alone keeps its weights in a small type."""
    weights = sum(model.parameters * _bytes_per_weight(model, spec.precision) for model, spec in models)
    return int(weights + batch * max(model.sample_gb for model, _ in models) * 1e9) + 10**9


def _bytes_per_weight(model: Recorded, precision: str) -> float:
    if model is MODELS["llava-1.5-7b"]:
        return {"nf4": 0.6, "fp32": 4.0}.get(precision, 2.0)
    return 4.0


def _recorded_seconds(model: Recorded, spec: WeightsSpec, batch: int, gpu: Device | None, counts: Counts) -> float:
    """Seconds of one GPU for a result; a rate of another GPU is scaled by the peaks of both."""
    gpu = gpu or known_device("A100")
    assert gpu is not None
    if model.rate is not None:
        device = known_device(model.device)
        assert device is not None, model.device
        return device.flops / gpu.flops / model.rate
    assert model.operations is not None
    peak = gpu.flops * (FP32_SHARE if spec.precision == "fp32" else 1.0) * ASSUMED_MFU
    if not model.kept:
        return model.operations * (counts.patch / 512) ** 2 / peak
    tokens: int = spec.max_new_tokens  # type: ignore[attr-defined]  # what answers in words has a limit of them
    together = max(batch, _AT_ENDPOINT) if getattr(spec, "endpoint", None) else batch
    weights = model.parameters * _bytes_per_weight(model, spec.precision) / together
    return model.operations / peak + tokens * (weights + model.kept) / (gpu.bandwidth * ASSUMED_BANDWIDTH)
