"""The machine that is planned for: the one at hand, or one that is named."""

from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from spasemsr.errors import UserError
from spasemsr.training.devices import KNOWN, Device, known_device, peak_flops
from spasemsr.upscaling.memory import free_bytes

_CPU_FLOPS = 50e9  # of one core, assumed
_DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True)
class Hardware:
    """GPUs (None: there is none), how many of them in all, free memory of this machine and whether it was named.

    `per_machine` of them are linked, and machines exchange `network` bytes per second in one direction.
    """

    gpu: Device | None
    count: int
    memory: int
    named: bool
    per_machine: int = 8
    network: float = 12.5e9

    @property
    def exchange(self) -> float:
        """Bytes per second at which all GPUs sum up what each of them has: of the slowest link that it passes."""
        link = self.gpu.link if self.gpu is not None else self.network
        return min(link, self.network) if self.count > self.per_machine else link

    @property
    def flops(self) -> float:
        """Peak of one device; of a CPU an assumption."""
        return self.gpu.flops if self.gpu is not None else _CPU_FLOPS

    def __str__(self) -> str:
        if self.gpu is None:
            return f"no GPU, {psutil.cpu_count()} cores, {self.memory / 1e9:.0f} GB of memory free"
        return f"{self.count} x {self.gpu.name} ({self.gpu.memory / 1e9:.0f} GB){', as named' if self.named else ''}"


def hardware(
    name: str | None = None, count: int | None = None, per_machine: int = 8, gigabits: float = 100.0
) -> Hardware:
    """The GPUs of this machine, or `count` of the kind `name`.

    Raises UserError for a name that is not listed, and for a `count` of no GPU.

    Machines of `per_machine` GPUs are linked by so many gigabits per second.
    """
    return replace(_found(name, count), per_machine=per_machine, network=gigabits * 1e9 / 8)


def _found(name: str | None, count: int | None) -> Hardware:
    if name is not None:
        device = known_device(name)
        if device is None:
            raise UserError(f"Nothing is known of a GPU {name!r}.", f"Choose from: {', '.join(d.name for d in KNOWN)}.")
        return Hardware(device, count or 1, free_bytes(), True)
    if not _has_gpu():
        if count is not None:
            raise UserError("This machine has no GPU of which there could be more.", "Say --gpu too, such as A100.")
        return Hardware(None, 1, free_bytes(), False)
    import torch

    properties = torch.cuda.get_device_properties(0)
    assumed = known_device("A100")  # of a device that nothing is known of
    assert assumed is not None
    flops = peak_flops(properties.name, "bf16") or assumed.flops
    known = known_device(properties.name) or assumed
    found = replace(known, name=properties.name, memory=properties.total_memory, flops=flops)
    return Hardware(found, count or torch.cuda.device_count(), free_bytes(), False)


def _has_gpu() -> bool:
    if not _DRIVER.exists():  # answers without torch, which takes seconds to import
        return False
    import torch

    return torch.cuda.is_available()


def free_disk(folder: Path) -> int:
    """Bytes free where a folder lies or will lie."""
    while not folder.exists():
        folder = folder.parent
    return psutil.disk_usage(str(folder)).free
