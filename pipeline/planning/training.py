"""What a training step takes, from the method's real network with tensors that have shapes and no contents.

Parameters are exact. Operations are counted in forward and backward; activations are what autograd would keep, at one
and at two samples, which gives the part that grows with the batch. The CPU's kernels stand for the GPU's: estimates.
"""

from dataclasses import dataclass, replace

import torch

from spasemsr.methods.face import Face, Ingredients, Traced
from spasemsr.training.memory import StateBytes, state_bytes
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


def step_cost(face: Face, given: Ingredients, train: TrainSpec, beside: int = 0) -> StepCost:
    """Of one sample of the profile's patches; `beside` are bytes of frozen models that stand beside the network."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        step = face.trace(given)
        trace = _Trace(step, train.precision == "bf16")
        forward, operations = trace.operations()
        (one, two), (one_again, two_again) = (
            [trace.activations(samples, checkpointing) for samples in (1, 2)] for checkpointing in (False, True)
        )
        trained = sum(p.numel() for part in step.trainable().values() for p in part.parameters())
        held = state_bytes(step.network, step.trainable(), train)
    held = replace(held, frozen=held.frozen + beside)
    return StepCost(
        trained, operations, forward, held, 2 * one - two, two - one, 2 * one_again - two_again, two_again - one_again
    )


def fitting(cost: StepCost, spec: TrainSpec, memory: int, processes: int) -> tuple[int, bool] | None:
    """The least (accumulate, checkpointing) with which a step is estimated to fit, None where one sample does not."""
    share = spec.global_batch // processes
    for checkpointing in (False, True):
        for accumulate in (n for n in range(1, share + 1) if share % n == 0):
            if cost.memory(share // accumulate, checkpointing) <= memory:
                return accumulate, checkpointing
    return None


@dataclass
class _Trace:
    """Runs a step on tensors without contents; call under FakeTensorMode."""

    step: Traced
    bf16: bool

    def operations(self) -> tuple[float, float]:
        """Of one sample's forward, and of forward and backward together."""
        from torch.utils.flop_counter import FlopCounterMode

        self.step.checkpoint(False)
        with FlopCounterMode(display=False) as counter:
            loss = self._loss(1)
            forward = counter.get_total_flops()
            loss.backward()
        for parameter in self.step.network.parameters():
            parameter.grad = None
        return float(forward), float(counter.get_total_flops())

    def activations(self, samples: int, checkpointing: bool) -> int:
        """Bytes autograd keeps between forward and backward, parameters left out, each storage once."""
        self.step.checkpoint(checkpointing)
        own = {tensor.untyped_storage()._cdata for tensor in self.step.network.parameters()}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage  # held, so that no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self._loss(samples)
        return sum(storage.nbytes() for address, storage in kept.items() if address not in own)

    def _loss(self, samples: int) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.step.loss(samples)
