"""Disk, memory and hours of each column: by its schema's shapes, what accounts measured here, else recorded rates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.engine.account import Account
from pipeline.planning.counts import Counts
from pipeline.planning.recorded import ASSUMED_MFU, FP32_SHARE, MODELS, Recorded
from spasemsr.backends.networks.spec import SamSizeSpec
from spasemsr.config import Params, Profile
from spasemsr.data.columns import Column, columns_of
from spasemsr.training.devices import Device, known_device

_TAR = 768  # bytes of header and padding per member, on average
_PNG = {"hr": 0.6, "lr": 0.8, "restored": 0.6}  # of a byte per channel and pixel; hr, lr: this project's own columns
_JSON = {"objects": 2500, "caption": 600, "lr": 2500}
_MASK = 0.01  # bytes per pixel of a map of areas
# Embedded backends, results per second of one core at this side in pixels: accounts of this project's own default run.
_CPU = {
    "hr": (398.0, 128), "lr": (74.0, 128), "restored": (44.0, 192), "objects": (20.5, 128), "caption": (481.0, 128),
    "latents": (333.0, 128), "features/spasemsr": (62.8, 128),
}  # fmt: skip
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
    params: Params, profile: Profile, counts: Counts, gpu: Device | None, accounts: dict[str, Account]
) -> Iterator[ColumnCost]:
    """Every column in the order of stages; `accounts` are those of this workspace, by column."""
    built = params.active.data  # what accounts were measured on
    for name, column in columns_of(profile.model.input).items():
        units = counts.units(column)
        models, batch = _models(name, profile)
        memory = _memory(models, batch) if models else None
        size = _bytes(column, profile, counts)
        account = accounts.get(name)
        if account is not None and account.rate > 0 and _same(account, params, profile, name):
            scale = (counts.patch / built.patch) ** 2
            rate = account.rate / account.workers / scale
            origin = f"measured here ({account.rate:.3g}/s with {account.workers} workers"
            origin += f" at {built.patch} px, scaled by area)" if scale != 1 else ")"
            yield ColumnCost(name, units, size * units, 1 / rate, bool(models) and gpu is not None, memory, origin)
        elif models:
            seconds = _recorded_seconds(models, gpu, counts)
            sources = tuple(dict.fromkeys(model.source for model, _ in models))
            yield ColumnCost(name, units, size * units, seconds, True, memory, _RECORDED, sources)
        else:
            rate, side = _CPU[name]
            source = f"{name}: {rate:g} results/s of one core at {side} px, this project's default run; scaled by area"
            yield ColumnCost(
                name, units, size * units, (counts.patch / side) ** 2 / rate, False, None, _RECORDED, (source,)
            )


def _bytes(column: Column, profile: Profile, counts: Counts) -> int:
    """A result's members in a tar, by shape; pictures and texts by what they took in other columns."""
    size, total = counts.patch, 0.0
    for member in column.members:
        if member.kind == "json":
            total += _JSON.get(column.name, 1000)
        elif member.kind == "npy":
            total += 2 * _elements(column.name, profile, size)
        elif member.base == "masks.png":
            total += _MASK * size**2
        else:
            side = size // 4 if column.name == "lr" else size
            total += _PNG.get(column.name, 0.6) * 3 * side**2
        total += _TAR
    return round(total)


def _elements(column: str, profile: Profile, size: int) -> int:
    """Numbers in an array column's member."""
    if column == "latents":
        channels = 3 * profile.autoencoder.keep**2 if profile.autoencoder.kind == "block_dct" else 4
        return 2 * channels * (size // 8) ** 2
    channels, cells = feature_shape(profile, size)
    return channels * cells**2


def feature_shape(profile: Profile, size: int) -> tuple[int, int]:
    """Channels and cells a side of the semantic reference of a patch."""
    spec = profile.features.spasemsr.sam
    if spec.kind == "filter_bank":
        return spec.channels, size // 8
    if isinstance(spec.architecture, SamSizeSpec):
        return spec.architecture.channels, spec.architecture.image_size // 16
    return 256, 64


def _models(column: str, profile: Profile) -> tuple[list[tuple[Recorded, str]], int]:
    """The networks a column's stage runs, with their precisions, and its batch size; none for embedded backends."""
    ground = profile.ground
    stages: dict[str, tuple[list[Any], int]] = {
        "restored": ([profile.restore], profile.restore.batch_size),
        "objects": ([ground.tagger, ground.detector, ground.segmenter], ground.batch_size),
        "caption": ([profile.caption], profile.caption.batch_size),
        "latents": ([profile.autoencoder], profile.autoencoder.batch_size),
        "features/spasemsr": ([profile.features.spasemsr.sam], profile.features.spasemsr.sam.batch_size),
    }
    specs, batch = stages.get(column, ([], 1))
    found = [(recorded_for(spec), spec.precision) for spec in specs if hasattr(spec, "source")]
    return [(model, precision) for model, precision in found if model is not None], batch


def recorded_for(spec: Any) -> Recorded | None:
    """What is recorded of a backend's model; a checkpoint of the user's counts as the usual one of its kind."""
    usual = {
        "llava": "llava-1.5-7b",
        "grounding_dino": "grounding-dino-base",
        "spandrel": "restorer",
        "autoencoder_kl": "autoencoder",
        "clip": "clip",
    }
    if spec.kind == "sam":
        return MODELS.get(f"sam-{spec.architecture}".replace("_", "-"), MODELS["sam-vit-b"])
    return MODELS.get(spec.source) or MODELS.get(usual.get(spec.kind, ""))


def _memory(models: list[tuple[Recorded, str]], batch: int) -> int:
    """Weights of all, the batch of the largest, and CUDA's own; LLaVA alone keeps its weights in a small type."""
    weights = sum(model.parameters * _bytes_per_weight(model, precision) for model, precision in models)
    return int(weights + batch * max(model.sample_gb for model, _ in models) * 1e9) + 10**9


def _bytes_per_weight(model: Recorded, precision: str) -> float:
    if model is MODELS["llava-1.5-7b"]:
        return {"nf4": 0.6, "fp32": 4.0}.get(precision, 2.0)
    return 4.0


def _recorded_seconds(models: list[tuple[Recorded, str]], gpu: Device | None, counts: Counts) -> float:
    """Seconds of one GPU for a result; a rate of another GPU is scaled by the peaks of both."""
    gpu = gpu or known_device("A100")
    assert gpu is not None
    seconds = 0.0
    for model, precision in models:
        if model.rate is not None:
            device = known_device(model.device)
            assert device is not None, model.device
            seconds += device.flops / gpu.flops / model.rate
        else:
            assert model.operations is not None
            peak = gpu.flops * (FP32_SHARE if precision == "fp32" else 1.0)
            seconds += model.operations * (counts.patch / 512) ** 2 / (peak * ASSUMED_MFU)
    return seconds


def _same(account: Account, params: Params, profile: Profile, column: str) -> bool:
    """Whether an account is of the backend that the profile names."""
    if column == "hr":
        return True
    if column == "lr":
        return account.params.get("degradation") == params.degradation.plain()
    sections = {
        "restored": ("restore", profile.restore),
        "objects": ("ground", profile.ground),
        "caption": ("caption", profile.caption),
        "latents": ("autoencoder", profile.autoencoder),
        "features/spasemsr": ("sam", profile.features.spasemsr.sam),
    }
    name, spec = sections[column]
    return isinstance(account.params, dict) and account.params.get(name) == spec.content()
