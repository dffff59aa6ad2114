"""What is done now and then beside training: the loss of samples not trained on, and models kept on the way."""

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
class Beside:
    """`read` gives the batch of some of the held samples `keys`; `keep(step)` stores the method as it is at a step.

    `path` is where the rows go: step, each loss, their total. They are part of a run's state, so that a run that was
    stopped and resumed ends with the same rows.
    """

    keys: Sequence[str]
    read: Callable[[Sequence[str]], Batch]
    path: Path
    keep: Callable[[int], None]
    rows: str = field(default="")

    def resume(self, rows: str) -> None:
        """Go on after these rows."""
        self.rows = rows

    def after(
        self, step: int, spec: TrainSpec, seed: int, accelerator: Accelerator, method: Trainable, average: Average
    ) -> None:
        """Whatever is due after so many steps, with the averaged weights in place."""
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
        """Mean losses over all held samples, `size` at once; noise, timesteps and drops are those of step 0."""
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
