"""Hours and memory of training and evaluating one method: by its own traced step, what ran here, else assumptions."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.planning.counts import Counts
from pipeline.planning.hardware import Hardware
from pipeline.planning.recorded import ASSUMED_MFU
from pipeline.planning.step import StepCost, fitting
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.training.spec import TrainSpec
from spasemsr.training.spent import Spent


@dataclass(frozen=True)
class MethodCost:
    """One method: how it is trained and sampled, what a step takes, and what its last run here took, if there was one.

    `smaller` says what would make its network smaller, as `Face.smaller` does. `text` are operations of a sample's
    texts: its prompt and its caption; the tags' states are remembered. `pictures` are restored at once in evaluation.
    """

    name: str
    train: TrainSpec
    sample: SampleSpec
    step: StepCost
    spent: Spent | None
    hardware: Hardware
    smaller: str = ""
    text: float = 0.0
    pictures: int = 1

    @property
    def disk(self) -> int:
        """Two training states, while one replaces the other, the model, and those kept on the way."""
        state = self.step.state
        kept = self.train.steps // self.train.keep_every if self.train.keep_every else 0
        return 2 * (state.weights + state.moments + state.average) + (1 + kept) * state.weights

    @property
    def micro_batch(self) -> int:
        """Samples a process holds at once."""
        return max(self.train.global_batch // self.hardware.count // self.train.accumulate, 1)

    @property
    def memory(self) -> int:
        """An estimate of a training process's peak."""
        return self.step.memory(self.micro_batch, self.train.gradient_checkpointing)

    @property
    def rate(self) -> tuple[float, str]:
        """Samples per second of all devices in training, and where that is from."""
        if self.spent is not None and self.spent.samples_per_second > 0:
            rate = self.spent.samples_per_second / self.spent.processes * self.hardware.count
            return rate, f"measured here: {self.spent}"
        assumed = f"MFU {self._share:.0%}" if self.hardware.gpu else f"{self.hardware.flops / 1e9:.0f} GFLOPS"
        rate = self.train.global_batch / (self.compute_seconds + self.waiting_seconds)
        return rate, f"estimated: operations counted, {assumed} assumed, not measured"

    @property
    def _share(self) -> float:
        return ASSUMED_MFU if self.hardware.gpu is not None else 1.0

    @property
    def compute_seconds(self) -> float:
        """Of a step, estimated by its operations."""
        operations = self.step.operations + self.text
        if self.train.gradient_checkpointing:
            operations += self.step.forward
        return operations * self.train.global_batch / (self._share * self.hardware.flops * self.hardware.count)

    @property
    def exchanged(self) -> int:
        """Bytes of gradients that every process has after a step's backward."""
        return self.step.trained * (2 if self.train.gradients == "bf16" else 4)

    @property
    def waiting_seconds(self) -> float:
        """Of a step: what exchanging gradients takes beyond the last micro-batch's backward, which it runs beside."""
        count = self.hardware.count
        exchange = 2 * (count - 1) / count * self.exchanged / self.hardware.exchange
        backward = 1 - self.step.forward / self.step.operations
        return max(exchange - backward * self.compute_seconds / self.train.accumulate, 0.0)

    @property
    def train_hours(self) -> float:
        """Device-hours of the whole training."""
        return self.train.steps * self.train.global_batch / self.rate[0] * self.hardware.count / 3600

    def evaluate_hours(self, counts: Counts) -> float:
        """Device-hours of restoring the evaluation split once."""
        branches = 1 if self.sample.guidance == 1.0 else 2
        area = (counts.val_patch / counts.patch) ** 2
        calls = -(-counts.evaluation // self.pictures) * self.sample.steps * branches  # the last is filled up
        operations = calls * self.pictures * self.step.forward
        return operations * area / (self._share * self.hardware.flops) / 3600

    def shortage(self, device_memory: int) -> tuple[str, str] | None:
        """What keeps it from being trained on this hardware, and what to do about it."""
        train, processes = self.train, self.hardware.count
        if train.global_batch % (processes * train.accumulate):
            return (
                f"{self.name}: train.global_batch {train.global_batch} does not divide among {processes} devices of "
                f"{train.accumulate} micro-batches",
                "Change train.global_batch, train.accumulate or the number of devices.",
            )
        if self.memory <= device_memory:
            return None
        needed = f"train {self.name}: about {_gb(self.memory)} on each device, {_gb(device_memory)} are there"
        fit = fitting(self.step, train, device_memory, processes)
        if fit is None:
            also = f" and methods.{self.name}.{self.smaller}" if self.smaller else ""
            return needed, f"Set train.optimizer: adamw8bit{also}, or use larger GPUs."
        return needed, f"Set train.accumulate: {fit[0]}, train.gradient_checkpointing: {str(fit[1]).lower()}."

    def lines(self, counts: Counts) -> Iterator[str]:
        """Two rows of the plan's table, each with what it rests on."""
        rate, origin = self.rate
        device, hours = "GPU" if self.hardware.gpu is not None else "core", self.train_hours
        yield f"{f'train {self.name}':<19}{'':>9}{'':>11}{_gb(self.memory):>9}{hours:>9.2f}  {device}"
        yield (
            f"    {self.step.trained:,} trained parameters; {self.step.operations / 1e12:.3g} TFLOP a sample and step; "
            f"{self.train.steps} steps of {self.train.global_batch}: {rate:.3g} samples/s, "
            f"{hours / self.hardware.count:.1f} h by the clock"
        )
        yield f"    {origin}"
        if self.hardware.count > 1:
            yield (
                f"    a step (estimated): {1000 * self.compute_seconds:.0f} ms of computing and "
                f"{1000 * self.waiting_seconds:.0f} ms of waiting for {_gb(self.exchanged)} of gradients at "
                f"{self.hardware.exchange / 1e9:.0f} GB/s (train.gradients: {self.train.gradients})"
            )
        yield (
            f"    memory (estimated): {_gb(self.step.state.total)} of weights, gradients and moments (exact), and "
            f"activations of {self.micro_batch} samples"
        )
        evaluate = self.evaluate_hours(counts)
        yield f"{f'evaluate {self.name}':<19}{counts.evaluation:>9}{'':>11}{'':>9}{evaluate:>9.2f}  {device}"
        together = f" for {self.pictures} pictures" if self.pictures > 1 else ""
        operations = self.pictures * self.step.forward / 1e12
        yield f"    estimated: {operations:.3g} TFLOP a network call{together}, the same share of the peak assumed"


def _gb(size: float) -> str:
    """Bytes of memory as a person reads them."""
    return f"{size / 1e9:.1f} GB"
