"""`spasemsr plan`: disk, memory and hours of a profile on given hardware, what is missing, and what to change.

Every number says whether it was measured here, recorded elsewhere or estimated. Nothing is run or downloaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import layout
from pipeline.engine import training_account
from pipeline.engine.account import read_accounts
from pipeline.planning import storage
from pipeline.planning.columns import ColumnCost, column_costs, recorded_for
from pipeline.planning.counted import step_cost
from pipeline.planning.counts import Counts, count
from pipeline.planning.hardware import Hardware, free_disk
from pipeline.planning.methods import MethodCost
from pipeline.tools import inventory
from spasemsr.cache import default_root
from spasemsr.config import Params, Profile, ProfileName
from spasemsr.methods import method
from spasemsr.weights import store
from spasemsr.weights.registry import ENTRIES


@dataclass(frozen=True)
class Shortage:
    """Something that is missing or does not fit, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Plan:
    """All that was found out about a profile on given hardware."""

    name: ProfileName
    profile: Profile
    counts: Counts
    hardware: Hardware
    columns: list[ColumnCost]
    methods: list[MethodCost]
    copies: int = 2

    @property
    def device_memory(self) -> int:
        """Of one device, where a stage or a training process runs."""
        return self.hardware.gpu.memory if self.hardware.gpu is not None else self.hardware.memory

    @property
    def disk(self) -> int:
        """Tars in each of their `copies`, training states and models, and weights not here yet."""
        absent = [ENTRIES[name] for name in inventory.used_by(self.profile)]
        weights = sum(model.size for model in absent if inventory.state(model).startswith("not here"))
        return (
            self.copies * sum(cost.bytes for cost in self.columns) + sum(cost.disk for cost in self.methods) + weights
        )

    @property
    def train_memory(self) -> int:
        """An estimate of the peak of a training process, of whichever method takes most."""
        return max(cost.memory for cost in self.methods)


def make_plan(params: Params, name: ProfileName, hardware: Hardware, samples: int | None = None) -> Plan:
    """Look at data, accounts and networks; the first plan of a network takes half a minute, and allocates nothing."""
    profile: Profile = getattr(params, name).running(params.methods, params.learners)
    counts = count(params, name, samples)
    accounts = {account.column: account for account in read_accounts(default_root(), Path.cwd())}
    text = recorded_for(profile.text_encoder) if hasattr(profile.text_encoder, "source") else None
    beside = 2 * text.parameters if text is not None else 0  # the autoencoder is never loaded: latents are a column
    spent = dict(training_account.read(default_root(), Path.cwd(), name))

    def cost(own: str) -> MethodCost:
        face, given, train = method(own), params.ingredients(own, name), profile.train_of(own)
        step = step_cost(face, given, train, beside)
        texts = 2 * text.operations if text is not None and text.operations is not None else 0.0
        evaluate, last = profile.evaluate, spent.get(own)
        return MethodCost(own, train, evaluate.sample, step, last, hardware, face.smaller, texts, evaluate.batch_size)

    columns = list(column_costs(params, name, counts, hardware.gpu, accounts))
    return Plan(name, profile, counts, hardware, columns, [cost(own) for own in params.methods], storage.copies())


def missing_weights(profile: Profile) -> Iterator[Shortage]:
    """Registry models of the profile that are not here or may not be loaded, and paths that do not exist."""
    optional = inventory.done_without(profile)
    for name in inventory.used_by(profile):
        if name in optional:
            continue
        state = inventory.state(ENTRIES[name])
        if state != "here":
            size = store.gigabytes(ENTRIES[name].size)
            yield Shortage(f"{name} ({size}): {state}", f"Run: spasemsr models fetch {name}")
    for source in inventory.nowhere(profile):
        yield Shortage(f"{source}: no file or folder of that name", "Correct `source` in params.yaml.")


def shortages(plan: Plan) -> Iterator[Shortage]:
    """What keeps the plan from being carried out."""
    networks = [cost for cost in plan.columns if cost.memory is not None]
    if networks and plan.hardware.gpu is None:
        yield Shortage(
            f"No GPU here, and {', '.join(cost.column for cost in networks)} run networks.",
            "Run on a machine with GPUs; plan for one with --gpu and --gpus.",
        )
    yield from missing_weights(plan.profile)
    free = free_disk(layout.SHARDS)
    if plan.disk > free:
        yield Shortage(
            f"disk: {_size(plan.disk)} are needed, {_size(free)} are free",
            "Set SPASEMSR_CACHE to another disk and run `spasemsr cache prune --column NAME` after each stage, or "
            f"lower max_patches.{storage.remedy()}",
        )
    for cost in networks:
        if plan.hardware.gpu is not None and cost.memory is not None and cost.memory > plan.device_memory:
            yield Shortage(
                f"{cost.column}: about {_size(cost.memory)} of GPU memory, {_size(plan.device_memory)} are there",
                "Lower its batch_size, or set precision: nf4 (LLaVA).",
            )
    for method_cost in plan.methods:
        if lacking := method_cost.shortage(plan.device_memory):
            yield Shortage(*lacking)


def lines(plan: Plan) -> Iterator[str]:
    """The plan for a reader."""
    counts = plan.counts
    yield f"profile {plan.name} on {plan.hardware}"
    yield (
        f"{counts.train} training patches of {counts.patch} px x {counts.variants} variants, "
        f"{counts.evaluation} for evaluation ({counts.origin})"
    )
    yield ""
    yield f"{'column':<19}{'results':>9}{'disk':>11}{'memory':>9}{'hours':>9}  device"
    sources = list(dict.fromkeys(source for cost in plan.columns for source in cost.sources))
    for cost in plan.columns:
        memory = _size(cost.memory) if cost.memory is not None else "-"
        device = "GPU " if cost.on_gpu else "core"
        row = f"{cost.column:<19}{cost.units:>9}{_size(cost.bytes):>11}{memory:>9}{cost.hours:>9.2f}  {device}"
        yield f"{row}  {cost.origin}{''.join(f' [{sources.index(source) + 1}]' for source in cost.sources)}"
    for method_cost in plan.methods:
        yield from method_cost.lines(counts)
    yield ""
    for number, source in enumerate(sources, 1):
        yield f"[{number}] {source}"
    if any(cost.memory is not None for cost in plan.columns):
        yield "Rates of other GPUs are scaled by their peaks; memory of networks is estimated."
    yield ""
    tars = f"{_size(sum(cost.bytes for cost in plan.columns))} of tars"
    yield f"disk   {_size(plan.disk)}: {tars} {storage.where()}, training states, models, absent weights"
    yield f"       {_size(free_disk(layout.SHARDS))} free here"
    gpu = sum(cost.hours for cost in plan.columns if cost.on_gpu)
    networks = sum(cost.train_hours + cost.evaluate_hours(counts) for cost in plan.methods)
    if plan.hardware.gpu is not None:
        gpu += networks
    cores = sum(cost.hours for cost in plan.columns if not cost.on_gpu)
    if plan.hardware.gpu is None:
        cores += networks
    yield f"hours  {gpu:.1f} of a GPU, {cores:.1f} of a CPU core; estimates where it says so"
    yield ""
    found = list(shortages(plan))
    yield f"Missing: {len(found)}" if found else "Nothing is missing."
    for shortage in found:
        yield f"!!  {shortage.what}"
        yield f"    {shortage.remedy}"


def _size(size: float) -> str:
    """Bytes as a person reads them."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.0f} kB"
