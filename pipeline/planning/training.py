"""What a training step takes, from the method's real network with tensors that have shapes and no contents.

Parameters are exact. Operations are counted in forward and backward; activations are what autograd would keep, at one
and at two samples, which gives the part that grows with the batch. The CPU's kernels stand for the GPU's: estimates.
"""

from dataclasses import dataclass

import torch

from pipeline.planning.step import StepCost
from spasemsr.methods.face import Face, Ingredients, Traced
from spasemsr.training.memory import state_bytes
from spasemsr.training.spec import TrainSpec


def trace_step(face: Face, given: Ingredients, train: TrainSpec) -> StepCost:
    """Of one sample of the profile's patches. Takes a quarter of a minute of a core, and more at the paper's size."""
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
    return StepCost(
        trained, operations, forward, held, 2 * one - two, two - one, 2 * one_again - two_again, two_again - one_again
    )


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
