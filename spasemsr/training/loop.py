"""The training loop: forward, backward, clip, step, average, log, save, in that order; it knows no method by name.

Order of samples, noise and drops are functions of (seed, step, key), so resuming needs no generator state and the world
size changes neither. On one machine a stopped and resumed run ends in the same bits as an undisturbed one.
"""

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from spasemsr.config import TrainSpec
from spasemsr.data.dataset import Batch
from spasemsr.errors import UserError
from spasemsr.methods.base import Method, Noise
from spasemsr.modelfile import load_init
from spasemsr.progress import Progress
from spasemsr.training.checkpoint import Position, load_state, save_state
from spasemsr.training.log import LossLog
from spasemsr.training.optimizer import Average, build_optimizer, learning_rate, named_parameters, set_learning_rate

logger = logging.getLogger(__name__)

Batches = Callable[[int, int, int], Batch]  # (step, rank, world size) -> this rank's slice of the global batch
STOPPED = 128 + signal.SIGTERM  # exit status of a run that was asked to stop


def train(method: Method, batches: Batches, spec: TrainSpec, seed: int, state_dir: Path, log_path: Path) -> None:
    """Train in place from the newest state in `state_dir` (else `spec.init`, else as built) to the averaged weights.

    Writes `losses.csv` to `log_path`. Raises UserError for a loss or gradient that is not finite, before it is used;
    on SIGTERM saves the state and raises SystemExit(143).
    """
    accelerator = Accelerator()
    rank, world, device = accelerator.process_index, accelerator.num_processes, accelerator.device
    if spec.global_batch % world:
        raise UserError(
            f"train.global_batch = {spec.global_batch} does not divide among {world} processes.",
            "Change either, so that every process gets as many samples.",
        )
    if spec.init is not None:
        load_init(Path(spec.init), method)
    model = accelerator.prepare_model(method)
    parameters = named_parameters(method.trainable())
    optimizer = build_optimizer(method.trainable(), spec)
    average = Average(parameters, spec.ema_decay)
    position = load_state(state_dir, method, optimizer, average) or Position(0, None)
    log = LossLog(log_path, spec.log_every, position.log) if accelerator.is_main_process else None
    progress = Progress("train", spec.steps, position.step, "steps")
    model.train()
    with stop_signal() as stopping, _prefetched(batches, range(position.step, spec.steps), rank, world) as upcoming:
        for step, batch in upcoming:
            lr = learning_rate(step, spec)
            set_learning_rate(optimizer, lr)
            with torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
                losses = model(batch.to(device), Noise(seed, step))
            values, stop = _mean_over_ranks(accelerator, losses, stopping.is_set())
            _require_finite(values, step, batch.keys)
            accelerator.backward(sum(losses.values()))
            grad_norm = accelerator.clip_grad_norm_(parameters.values(), spec.max_grad_norm).item()
            _require_finite({"grad_norm": grad_norm}, step, batch.keys)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update(step)
            if log is not None:
                log.add(step + 1, values, grad_norm, lr)
                if (step + 1) % spec.save_every == 0 or step + 1 == spec.steps or stop:
                    save_state(state_dir, Position(step + 1, log.state()), method, optimizer, average)
                progress.advance(note=f"loss {sum(values.values()):.4f}")
            if stop and step + 1 < spec.steps:
                logger.info("train     stopped after step %d of %d, state saved", step + 1, spec.steps)
                raise SystemExit(STOPPED)
    progress.close()
    accelerator.wait_for_everyone()
    average.copy_to_parameters()


def _mean_over_ranks(accelerator: Accelerator, losses: dict[str, Tensor], stop: bool) -> tuple[dict[str, float], bool]:
    """Losses averaged over equal slices, and whether any rank was asked to stop; one transfer for all."""
    flag = torch.tensor(float(stop), device=accelerator.device)
    mean = accelerator.reduce(torch.stack([*(loss.detach().float() for loss in losses.values()), flag]), "mean")
    *values, flagged = mean.tolist()
    return dict(zip(losses, values, strict=True)), flagged > 0


def _require_finite(values: dict[str, float], step: int, keys: Sequence[str]) -> None:
    """Stop before a broken number reaches the weights."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise UserError(
                f"train: {name} is {value} at step {step + 1}, samples {', '.join(gather_object(list(keys)))}.",
                "Look at these samples (spasemsr show KEY), or lower train.lr; the last saved state is intact.",
            )


@contextmanager
def _prefetched(batches: Batches, steps: range, rank: int, world: int) -> Iterator[Iterator[tuple[int, Batch]]]:
    """(step, batch) pairs, the next batch being read while one is used."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:

        def pairs() -> Iterator[tuple[int, Batch]]:
            upcoming = pool.submit(batches, steps.start, rank, world) if steps else None
            for step in steps:
                assert upcoming is not None
                batch = upcoming.result()
                upcoming = pool.submit(batches, step + 1, rank, world) if step + 1 in steps else None
                yield step, batch

        yield pairs()


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
