"""What is published of GPUs: memory, and the dense bf16 rate with which model FLOPs utilisation (MFU) is stated.

Rates are those of NVIDIA's data sheets without sparsity. A device that is not listed has no MFU, unless its rate is
stated: `SPASEMSR_PEAK_TFLOPS`, which changes no byte of any output.
"""

import os
from dataclasses import dataclass

from spasemsr.errors import UserError

GB = 10**9
PEAK = "SPASEMSR_PEAK_TFLOPS"


@dataclass(frozen=True)
class Device:
    """One kind of GPU: bytes of memory and dense bf16 operations per second."""

    name: str
    memory: int
    flops: float


# The first whose name is part of what the driver says; longer names stand before those they contain.
KNOWN = (
    Device("B200", 180 * GB, 2250e12),
    Device("H200", 141 * GB, 989e12),
    Device("H100 PCIe", 80 * GB, 756e12),
    Device("H100", 80 * GB, 989e12),
    Device("A100-SXM4-40GB", 40 * GB, 312e12),
    Device("A100-PCIE-40GB", 40 * GB, 312e12),
    Device("A100", 80 * GB, 312e12),
    Device("L40S", 48 * GB, 362e12),
    Device("A6000", 48 * GB, 155e12),
    Device("A10", 24 * GB, 125e12),
    Device("RTX 4090", 24 * GB, 165e12),
    Device("RTX 3090", 24 * GB, 71e12),
)


def known_device(name: str) -> Device | None:
    """The published figures of a device by the driver's name for it, or by ours; None where it is not listed."""
    return next((device for device in KNOWN if device.name.lower() in name.lower()), None)


def peak_flops(name: str, precision: str) -> float | None:
    """Operations per second to compare with: what the environment states, else the data sheet's for bf16."""
    if stated := os.environ.get(PEAK):
        try:
            return float(stated) * 1e12
        except ValueError:
            raise UserError(f"{PEAK}={stated!r} is no number.", "Give tera-operations per second, e.g. 989.") from None
    device = known_device(name)
    return device.flops if device is not None and precision == "bf16" else None
