"""The training loop: forward, backward, clip, step, average, log, save, in that order; it knows no method by name.

Order of samples, noise and drops are functions of (seed, step, key), so resuming needs no generator state and the world
size changes neither. On one machine a stopped and resumed run ends in the same bits as an undisturbed one.
"""

import logging
import math
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DDPCommunicationHookType, DistributedDataParallelKwargs, gather_object
from torch import Tensor

from spasemsr.data.dataset import Batch
from spasemsr.errors import UserError
from spasemsr.methods.folder import load_init
from spasemsr.methods.noise import Noise
from spasemsr.methods.protocol import Trainable
from spasemsr.progress import Progress
from spasemsr.training.checkpoint import Position, load_state, save_state
from spasemsr.training.log import LossLog
from spasemsr.training.memory import explained, state_bytes
from spasemsr.training.meter import Meter
from spasemsr.training.optimizer import Average, build_optimizer, learning_rate, named_parameters, set_learning_rate
from spasemsr.training.periodic import Periodic
from spasemsr.training.spec import TrainSpec
from spasemsr.training.spent import Spent

logger = logging.getLogger(__name__)

Batches = Callable[[int, int, int], Batch]  # (step, slice, number of slices) -> that slice of the global batch
STOPPED = 128 + signal.SIGTERM  # exit status of a run that was asked to stop


def train(
    method: Trainable,
    batches: Batches,
    spec: TrainSpec,
    seed: int,
    state_dir: Path,
    log_path: Path,
    smaller: str = "",
    periodic: Periodic | None = None,
) -> Spent | None:
    """Train in place from the newest state in `state_dir` (else `spec.init`, else as built) to the averaged weights.

    Writes `losses.csv` to `log_path`. Returns what the run took on the main process, None on the others. `periodic`
    validates and keeps models on the way. A step whose loss or gradient is not finite changes nothing. On SIGTERM saves
    the state and raises SystemExit(143).

    Raises UserError for more than `spec.max_skipped` such steps, for a batch that does not divide among the processes,
    for processes that would resume at different steps, and when memory runs out; `smaller` is then part of the advice,
    the setting that makes this network smaller.
    """
    accelerator = _accelerator(spec)
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    slices = world * spec.accumulate
    if spec.global_batch % slices:
        raise UserError(
            f"train.global_batch = {spec.global_batch} does not divide among {world} processes"
            + (f" of {spec.accumulate} micro-batches each." if spec.accumulate > 1 else "."),
            "Change one of them, so that every process gets as many samples.",
        )
    if spec.init is not None:
        load_init(Path(spec.init), method)
    model = _prepared(accelerator, method, spec)
    parameters = named_parameters(method.trainable())
    optimizer = build_optimizer(method.trainable(), spec)
    average = Average(parameters, spec.ema_decay)
    position = load_state(state_dir, method, optimizer, average) or Position(0, None)
    _require_agreement(position, state_dir)
    skipped = position.skipped
    if periodic is not None:
        periodic.resume(position.validation, accelerator.is_main_process)
    log = LossLog(log_path, spec.log_every, position.log) if accelerator.is_main_process else None
    progress = Progress("train", spec.steps, position.step, "steps")
    meter = Meter(device, world, spec.global_batch, spec.precision, spec.compile)
    in_memory = state_bytes(method, method.trainable(), spec)
    model.train()
    steps = range(position.step, spec.steps)
    with stop_signal() as stopping, _prefetched(batches, steps, rank, world, spec.accumulate) as upcoming:
        for step in steps:
            lr = learning_rate(step, spec)
            set_learning_rate(optimizer, lr)
            with explained(f"at step {step + 1}", in_memory, spec, spec.global_batch // slices, smaller):
                losses, keys = _backward(accelerator, model, upcoming, Noise(seed, step), spec, meter)
                values, stop = _mean_over_ranks(accelerator, losses, stopping.is_set())
                grad_norm = accelerator.clip_grad_norm_(parameters.values(), spec.max_grad_norm).item()
                broken = not_finite({**values, "grad_norm": grad_norm})
                if broken:
                    skipped += 1
                    _report_broken(broken, step, gather_object(list(keys)), skipped, spec.max_skipped)
                else:
                    optimizer.step()
                    average.update(step)
            optimizer.zero_grad(set_to_none=True)
            meter.finished()
            if periodic is not None:
                periodic.after(step + 1, spec, seed, accelerator, method, average)
            if log is not None:
                total = sum(values.values())
                log.add(step + 1, None if broken else {**values, "total": total, "grad_norm": grad_norm}, lr)
                if (step + 1) % spec.save_every == 0 or step + 1 == spec.steps or stop:
                    rows = periodic.rows if periodic is not None else ""
                    save_state(state_dir, Position(step + 1, log.state(), skipped, rows), method, optimizer, average)
                progress.advance(note=f"loss {total:.4f} · {meter.peak_bytes / 1e9:.1f} GB")
            if stop and step + 1 < spec.steps:
                accelerator.wait_for_everyone()  # a launcher ends all processes when one leaves: the main one is saving
                logger.info("train     stopped after step %d of %d, state saved", step + 1, spec.steps)
                raise SystemExit(STOPPED)
    progress.close()
    accelerator.wait_for_everyone()
    average.copy_to_parameters()
    return meter.spent() if accelerator.is_main_process else None


def take_own_device() -> None:
    """Make this process's GPU the current one; call before a network is built.

    Whatever touches a GPU before that opens a context on the first one: half a gigabyte of it for each process.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _accelerator(spec: TrainSpec) -> Accelerator:
    """accelerate's handle on the processes of this launch.

    Without a GPU `cpu` must be set, or each process would train alone. Precision is `train.precision` and nothing else:
    `accelerate launch` and its configuration file may name another. Gradients are views of the buffers that processes
    exchange, not copies.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    cpu = True if launched > 1 and not torch.cuda.is_available() else None
    hook = DDPCommunicationHookType.BF16 if spec.gradients == "bf16" else DDPCommunicationHookType.NO
    exchange = DistributedDataParallelKwargs(gradient_as_bucket_view=True, comm_hook=hook)
    return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[exchange])


def _require_agreement(position: Position, state_dir: Path) -> None:
    """All processes resume at the same step, or none goes on: steps would be mixed without a sign of it."""
    places = gather_object([(position.step, platform.node())])
    if len({step for step, _ in places}) > 1:
        said = ", ".join(f"process {rank} on {host}: step {step}" for rank, (step, host) in enumerate(places))
        raise UserError(
            f"The processes would resume at different steps ({said}): they do not see the same {state_dir}.",
            "Put SPASEMSR_CACHE on storage that all machines mount, or delete that folder everywhere to start again.",
        )


def _prepared(accelerator: Accelerator, method: Trainable, spec: TrainSpec) -> torch.nn.Module:
    """The method on its device, computing as the spec says, wrapped for several processes where there are."""
    if spec.gradient_checkpointing or spec.compile:
        method.set_engine(checkpointing=spec.gradient_checkpointing, compiled=spec.compile)
    if spec.channels_last:
        method.to(memory_format=torch.channels_last)
    return accelerator.prepare_model(method)


def _backward(
    accelerator: Accelerator,
    model: torch.nn.Module,
    upcoming: Iterator[Batch],
    noise: Noise,
    spec: TrainSpec,
    meter: Meter,
) -> tuple[dict[str, Tensor], list[str]]:
    """Gradients of this process's share of a step, a micro-batch at a time; mean losses and keys of the share.

    Gradients are exchanged in the last backward only.
    """
    rows, keys = [], []
    for micro in range(spec.accumulate):
        batch = next(upcoming)
        alone = accelerator.no_sync(model) if micro + 1 < spec.accumulate else nullcontext()
        with alone, meter.operations(len(batch.keys), spec.gradient_checkpointing) as forward_is_over:
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
                losses = model(batch.to(accelerator.device), noise)
            forward_is_over()
            accelerator.backward(sum(losses.values()) / spec.accumulate)
        rows.append(torch.stack([loss.detach().float() for loss in losses.values()]))
        keys += batch.keys
    return dict(zip(losses, torch.stack(rows).mean(0), strict=True)), keys


def _mean_over_ranks(accelerator: Accelerator, losses: dict[str, Tensor], stop: bool) -> tuple[dict[str, float], bool]:
    """Losses averaged over equal slices, and whether any rank was asked to stop; one transfer for all."""
    flag = torch.tensor(float(stop), device=accelerator.device)
    mean = accelerator.reduce(torch.stack([*(loss.detach().float() for loss in losses.values()), flag]), "mean")
    *values, flagged = mean.tolist()
    return dict(zip(losses, values, strict=True)), flagged > 0


def not_finite(values: dict[str, float]) -> dict[str, float]:
    """Those of the named numbers that are infinite or no number."""
    return {name: value for name, value in values.items() if not math.isfinite(value)}


def _report_broken(broken: dict[str, float], step: int, keys: Sequence[str], skipped: int, allowed: int) -> None:
    """Say which step is left out and why; raise UserError when there were more than allowed."""
    name, value = next(iter(broken.items()))
    what = f"train: {name} is {value} at step {step + 1}, samples {', '.join(keys)}."
    if skipped <= allowed:
        logger.warning("%s Left out, %d of at most %d (train.max_skipped).", what, skipped, allowed)
        return
    raise UserError(
        what,
        "Look at these samples (spasemsr show KEY). To go on from the last saved state without such steps, set "
        f"train.max_skipped: {skipped} or higher; a lower train.lr starts again.",
    )


@contextmanager
def _prefetched(batches: Batches, steps: range, rank: int, world: int, accumulate: int) -> Iterator[Iterator[Batch]]:
    """This rank's micro-batches in order, the next one being read while one is used."""
    first = rank * accumulate
    wanted = [(step, first + micro, world * accumulate) for step in steps for micro in range(accumulate)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:

        def in_order() -> Iterator[Batch]:
            upcoming = pool.submit(batches, *wanted[0]) if wanted else None
            for index in range(len(wanted)):
                assert upcoming is not None
                batch = upcoming.result()
                upcoming = pool.submit(batches, *wanted[index + 1]) if index + 1 < len(wanted) else None
                yield batch

        yield in_order()


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that a run can end between two steps; the old handler is put back."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping  # only the main thread may install handlers
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, previous)
