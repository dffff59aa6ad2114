"""What a sample's training step takes, and which settings make it fit into a device's memory; no torch import."""

from dataclasses import dataclass

from spasemsr.training.memory import StateBytes
from spasemsr.training.spec import TrainSpec

OVERHEAD = 1.15  # fragmentation and what the allocator rounds up
CONTEXT = 10**9  # CUDA and cuDNN themselves
_POSITION = 1 / 8  # of all activations, at most, are one position's, which checkpointing holds while it recomputes


@dataclass(frozen=True)
class StepCost:
    """Operations of a sample's step, and of its forward alone; bytes held whatever the batch, and of activations."""

    trained: int
    operations: float
    forward: float
    state: StateBytes
    fixed: int
    per_sample: int
    fixed_checkpointed: int
    per_sample_checkpointed: int

    def memory(self, samples: int, checkpointing: bool) -> int:
        """An estimate of a GPU's peak with micro-batches of so many samples."""
        if checkpointing:
            active = self.fixed_checkpointed + self.per_sample_checkpointed * samples
            active += int(_POSITION * (self.fixed + self.per_sample * samples))
        else:
            active = self.fixed + self.per_sample * samples
        return int((self.state.total + active) * OVERHEAD) + CONTEXT


def fitting(cost: StepCost, spec: TrainSpec, memory: int, processes: int) -> tuple[int, bool] | None:
    """The least (accumulate, checkpointing) with which a step is estimated to fit, None where one sample does not."""
    share = spec.global_batch // processes
    for checkpointing in (False, True):
        for accumulate in (n for n in range(1, share + 1) if share % n == 0):
            if cost.memory(share // accumulate, checkpointing) <= memory:
                return accumulate, checkpointing
    return None
