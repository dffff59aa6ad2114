"""What a training run takes: samples per second, peak memory, and the share of the device's peak it reaches (MFU).

For people and for `spasemsr plan`; nothing is decided by it and none of it goes into an out, whose bytes would change.
Operations are counted once, in the first step, and only where a peak rate is known to compare with.
"""

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator

import torch

from spasemsr.training.devices import peak_flops
from spasemsr.training.spent import Spent


class Meter:
    """Watches one process of a run; `global_batch` samples are finished by all of them in a step.

    `compiled` runs compile in their second step: the first, whose operations are counted, runs as it is written.
    """

    def __init__(
        self, device: torch.device, processes: int, global_batch: int, precision: str, compiled: bool = False
    ) -> None:
        self._device, self._processes, self._batch = device, processes, global_batch
        self._name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self._peak = peak_flops(self._name, precision)
        self._flops: float | None = None
        self._steps, self._warming = 0, 2 if compiled else 1
        self._start = self._first = time.monotonic()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @contextlib.contextmanager
    def operations(self, samples: int, recomputes: bool) -> Iterator[Callable[[], None]]:
        """Count the first forward and backward inside, of `samples` samples; call what is yielded between the two.

        Checkpointing runs the forward of every position again: work, but none that the model asks for, so as many
        operations as the forward took are left out.
        """
        if self._peak is None or self._flops is not None:
            yield lambda: None
            return
        from torch.utils.flop_counter import FlopCounterMode

        forward = 0

        def forward_is_over() -> None:
            nonlocal forward
            forward = counter.get_total_flops()

        with FlopCounterMode(display=False) as counter:
            yield forward_is_over
        self._flops = (counter.get_total_flops() - (forward if recomputes else 0)) / samples

    def finished(self) -> None:
        """Count a step; the clock of the rate starts after those that also load, compile and warm up."""
        self._steps += 1
        if self._steps == self._warming:
            self._first = time.monotonic()

    @property
    def peak_bytes(self) -> int:
        """The most memory so far: allocated on the GPU, resident on a CPU."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def spent(self) -> Spent:
        """What the run took so far."""
        now = time.monotonic()
        seconds = now - self._first
        timed = self._steps - self._warming
        rate = timed * self._batch / seconds if timed > 0 and seconds > 0 else 0.0
        mfu = None
        if self._flops is not None and self._peak is not None and rate > 0:
            mfu = self._flops * rate / (self._peak * self._processes)
        return Spent(
            self._name, self._processes, self._steps, round(now - self._start, 3), rate, self.peak_bytes,
            self._flops, mfu,
        )  # fmt: skip
