"""What a training run took, as numbers: what `meter.py` measures, an account keeps and a plan reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """`samples_per_second` of all processes, the first step left out; operations are those of a sample's step.

    `peak_bytes` is what was allocated at most on the GPU, or what the process held at most on a CPU. `mfu` is None
    where no peak rate is known, or nothing was left to do.
    """

    device: str
    processes: int
    steps: int
    seconds: float
    samples_per_second: float
    peak_bytes: int
    flops_per_sample: float | None
    mfu: float | None

    def __str__(self) -> str:
        parts = [f"{self.samples_per_second:.3g} samples/s on {self.processes} x {self.device}"]
        parts.append(f"peak memory {self.peak_bytes / 1e9:.2f} GB")
        if self.mfu is not None:
            parts.append(f"MFU {self.mfu:.1%}")
        return " · ".join(parts)
