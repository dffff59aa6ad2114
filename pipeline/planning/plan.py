"""`spasemsr plan`: disk, memory and hours of a profile on given hardware, what is missing, and what to change.

Every number says whether it was measured here, recorded elsewhere or estimated. Nothing is run or downloaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import layout
from pipeline.engine import training_account
from pipeline.engine.account import read_accounts
from pipeline.planning.columns import ColumnCost, column_costs, recorded_for
from pipeline.planning.counts import Counts, count
from pipeline.planning.hardware import Hardware, free_disk
from pipeline.planning.recorded import ASSUMED_MFU
from pipeline.planning.training import StepCost, fitting, step_cost
from pipeline.tools import inventory
from spasemsr.cache import default_root
from spasemsr.config import Params, Profile, ProfileName
from spasemsr.training.spent import Spent
from spasemsr.weights import store
from spasemsr.weights.registry import ENTRIES

_TEXT = (77, 1024)  # rows and width of SD 2's text encoder
_TEXT_SD1 = (77, 768)


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
    step: StepCost
    spent: Spent | None

    @property
    def device_memory(self) -> int:
        """Of one device, where a stage or a training process runs."""
        return self.hardware.gpu.memory if self.hardware.gpu is not None else self.hardware.memory

    @property
    def disk(self) -> int:
        """Tars, the sample cache that holds the same again, two training states while one replaces the other, model.

        And the weights that are not here yet.
        """
        state = self.step.state.weights + self.step.state.moments + self.step.state.average
        absent = [ENTRIES[name] for name in inventory.used_by(self.profile)]
        weights = sum(model.size for model in absent if inventory.state(model).startswith("not here"))
        return 2 * sum(cost.bytes for cost in self.columns) + 2 * state + self.step.state.weights + weights

    @property
    def micro_batch(self) -> int:
        """Samples a process holds at once."""
        return max(self.profile.train.global_batch // self.hardware.count // self.profile.train.accumulate, 1)

    @property
    def train_memory(self) -> int:
        """An estimate of a training process's peak."""
        return self.step.memory(self.micro_batch, self.profile.train.gradient_checkpointing)

    @property
    def train_rate(self) -> tuple[float, str]:
        """Samples per second of all devices, and where that is from."""
        if self.spent is not None and self.spent.samples_per_second > 0:
            rate = self.spent.samples_per_second / self.spent.processes * self.hardware.count
            return rate, f"measured here: {self.spent}"
        operations = self.step.operations
        if self.profile.train.gradient_checkpointing:
            operations += self.step.forward
        share = ASSUMED_MFU if self.hardware.gpu is not None else 1.0
        assumed = f"MFU {share:.0%}" if self.hardware.gpu is not None else f"{self.hardware.flops / 1e9:.0f} GFLOPS"
        rate = share * self.hardware.flops * self.hardware.count / operations
        return rate, f"estimated: operations counted, {assumed} assumed, not measured"

    @property
    def train_hours(self) -> float:
        """Device-hours of the whole training."""
        train = self.profile.train
        return train.steps * train.global_batch / self.train_rate[0] * self.hardware.count / 3600

    @property
    def evaluate_hours(self) -> float:
        """Device-hours of restoring the evaluation split once."""
        sample = self.profile.evaluate.sample
        branches = 1 if sample.guidance == 1.0 else 2
        area = (self.counts.val_patch / self.counts.patch) ** 2
        operations = self.counts.evaluation * max(round(sample.steps * sample.start), 1) * branches * self.step.forward
        share = ASSUMED_MFU if self.hardware.gpu is not None else 1.0
        return operations * area / (share * self.hardware.flops) / 3600


def make_plan(params: Params, name: ProfileName, hardware: Hardware, samples: int | None = None) -> Plan:
    """Look at data, accounts and network; takes half a minute for a network of paper size, which is never allocated."""
    profile: Profile = getattr(params, name)
    counts = count(params, name, samples)
    accounts = {account.column: account for account in read_accounts(default_root(), Path.cwd())}
    processes = hardware.count if hardware.gpu is not None else 1
    text = recorded_for(profile.text_encoder) if hasattr(profile.text_encoder, "source") else None
    beside = 2 * text.parameters if text is not None else 0  # the autoencoder is never loaded: latents are a column
    features = profile.features.spasemsr.sam.shape(counts.patch)[0]
    spent = dict(training_account.read(default_root(), Path.cwd(), name)).get(params.methods[0])
    return Plan(
        name,
        profile,
        counts,
        hardware,
        list(column_costs(params, name, counts, hardware.gpu, accounts)),
        step_cost(profile, profile.autoencoder.channels, _text(profile), features, processes, beside),
        spent,
    )


def _text(profile: Profile) -> tuple[int, int]:
    spec = profile.text_encoder
    if spec.kind == "hashed":
        return spec.length, spec.width
    return _TEXT_SD1 if spec.source == "sd-1.5" else _TEXT


def missing_weights(profile: Profile) -> Iterator[Shortage]:
    """Registry models of the profile that are not here or may not be loaded, and paths that do not exist."""
    for name in inventory.used_by(profile):
        state = inventory.state(ENTRIES[name])
        if state != "here":
            size = store.gigabytes(ENTRIES[name].size)
            yield Shortage(f"{name} ({size}): {state}", f"Run: spasemsr models fetch {name}")
    for source in inventory.sources(profile):
        if source not in ENTRIES and not Path(source).expanduser().exists():
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
            "Set SPASEMSR_CACHE to another disk and run `spasemsr cache prune` after each stage, or lower max_patches.",
        )
    for cost in networks:
        if plan.hardware.gpu is not None and cost.memory is not None and cost.memory > plan.device_memory:
            yield Shortage(
                f"{cost.column}: about {_size(cost.memory)} of GPU memory, {_size(plan.device_memory)} are there",
                "Lower its batch_size, or set precision: nf4 (LLaVA).",
            )
    yield from _training_shortages(plan)


def _training_shortages(plan: Plan) -> Iterator[Shortage]:
    train, processes = plan.profile.train, plan.hardware.count
    if train.global_batch % (processes * train.accumulate):
        yield Shortage(
            f"train.global_batch {train.global_batch} does not divide among {processes} devices of {train.accumulate} "
            "micro-batches",
            "Change train.global_batch, train.accumulate or the number of devices.",
        )
    elif plan.train_memory > plan.device_memory:
        needed = f"train: about {_size(plan.train_memory)} on each device, {_size(plan.device_memory)} are there"
        fit = fitting(plan.step, train, plan.device_memory, processes)
        if fit is None:
            yield Shortage(needed, "Set train.optimizer: adamw8bit and model.attention: light, or use larger GPUs.")
        else:
            yield Shortage(
                needed, f"Set train.accumulate: {fit[0]}, train.gradient_checkpointing: {str(fit[1]).lower()}."
            )


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
    train, (rate, origin) = plan.profile.train, plan.train_rate
    device = "GPU" if plan.hardware.gpu is not None else "core"
    yield f"{'train':<19}{'':>9}{'':>11}{_size(plan.train_memory):>9}{plan.train_hours:>9.2f}  {device}"
    yield (
        f"    {plan.step.trained:,} trained parameters; {plan.step.operations / 1e12:.3g} TFLOP a sample and step; "
        f"{train.steps} steps of {train.global_batch}: {rate:.3g} samples/s, "
        f"{plan.train_hours / plan.hardware.count:.1f} h by the clock"
    )
    yield f"    {origin}"
    yield (
        f"    memory (estimated): {_size(plan.step.state.total)} of weights, gradients and moments (exact), and "
        f"activations of {plan.micro_batch} samples"
    )
    yield f"{'evaluate':<19}{counts.evaluation:>9}{'':>11}{'':>9}{plan.evaluate_hours:>9.2f}  {device}"
    yield f"    estimated: {plan.step.forward / 1e12:.3g} TFLOP a network call, the same share of the peak assumed"
    yield ""
    for number, source in enumerate(sources, 1):
        yield f"[{number}] {source}"
    if any(cost.memory is not None for cost in plan.columns):
        yield "Rates of other GPUs are scaled by their peaks; memory of networks is estimated."
    yield ""
    yield f"disk   {_size(plan.disk)}: tars, the same in the sample cache, two training states, model, absent weights"
    yield f"       {_size(free_disk(layout.SHARDS))} free here"
    gpu = sum(cost.hours for cost in plan.columns if cost.on_gpu)
    if plan.hardware.gpu is not None:
        gpu += plan.train_hours + plan.evaluate_hours
    cores = sum(cost.hours for cost in plan.columns if not cost.on_gpu)
    if plan.hardware.gpu is None:
        cores += plan.train_hours + plan.evaluate_hours
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
