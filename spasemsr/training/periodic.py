"""What is done every so many steps of training and changes no weight: validation losses, and models kept on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from spasemsr import atomic
from spasemsr.data.dataset import Batch
from spasemsr.methods.noise import Noise
from spasemsr.methods.protocol import Trainable
from spasemsr.training.optimizer import Average
from spasemsr.training.spec import TrainSpec


@dataclass
class Periodic:
    """Validation and kept models of one run.

    `keys` are the samples held out of training, `read` makes a batch of some of them, and `keep(step)` stores the
    method as it is after a step. `path` is the CSV that the losses go to: step, each loss, their total. Its rows are
    part of a run's state, so that a run which was stopped and resumed ends with the same rows.
    """

    keys: Sequence[str]
    read: Callable[[Sequence[str]], Batch]
    path: Path
    keep: Callable[[int], None]
    rows: str = field(default="")

    def resume(self, rows: str, writes: bool = True) -> None:
        """Continue a file that holds these rows; without rows, that of an earlier run goes. One process `writes`."""
        self.rows = rows
        if writes and rows:
            atomic.write_text(self.path, rows)
        elif writes:
            self.path.unlink(missing_ok=True)

    def after(
        self, step: int, spec: TrainSpec, seed: int, accelerator: Accelerator, method: Trainable, average: Average
    ) -> None:
        """Validate and keep where `spec` asks for it after this many steps, with the averaged weights in place."""
        validates = spec.validate_every > 0 and step % spec.validate_every == 0 and bool(self.keys)
        keeps = spec.keep_every > 0 and step % spec.keep_every == 0
        if not validates and not keeps:
            return
        with average.in_place():
            if validates:
                size = max(spec.global_batch // accelerator.num_processes // spec.accumulate, 1)
                losses = self._losses(size, spec, seed, accelerator, method)
                if accelerator.is_main_process:
                    self._write(step, losses)
            if keeps and accelerator.is_main_process:
                self.keep(step)

    @torch.no_grad()
    def _losses(
        self, size: int, spec: TrainSpec, seed: int, accelerator: Accelerator, method: Trainable
    ) -> dict[str, float]:
        """Mean losses over all held samples, `size` at a time.

        Noise, timesteps and drops are those of step 0 every time, so that rows differ by the weights alone.
        """
        own = list(self.keys[accelerator.process_index :: accelerator.num_processes])
        device = accelerator.device
        sums: dict[str, float] = {}
        for start in range(0, len(own), size):
            batch = self.read(own[start : start + size])
            with torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
                losses = method(batch.to(device), Noise(seed, 0))
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + len(batch.keys) * float(loss)
        everyones = gather_object([sums])
        names = next((list(part) for part in everyones if part), [])
        return {name: sum(part.get(name, 0.0) for part in everyones) / len(self.keys) for name in names}

    def _write(self, step: int, losses: dict[str, float]) -> None:
        if not self.rows:
            self.rows = ",".join(["step", *losses, "total"]) + "\n"
        numbers = [*losses.values(), sum(losses.values())]
        self.rows += ",".join([str(step), *(f"{value:.6e}" for value in numbers)]) + "\n"
        atomic.write_text(self.path, self.rows)
