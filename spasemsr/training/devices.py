"""What is published of GPUs: memory, its bandwidth, what links them, and the dense bf16 rate that MFU is stated with.

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
    """One kind of GPU: bytes of memory, dense bf16 operations per second, bytes per second of its memory and its links.

    `link` is what a GPU exchanges with others of its machine in one direction: half of NVLink's published sum at 75 %
    of its rate, or PCIe 4.0's 20 GB/s.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    link: float = 20e9


# The first whose name is part of what the driver says; longer names stand before those they contain.
KNOWN = (
    Device("B200", 180 * GB, 2250e12, 8000e9, 675e9),
    Device("H200", 141 * GB, 989e12, 4800e9, 338e9),
    Device("H100 PCIe", 80 * GB, 756e12, 2000e9),
    Device("H100", 80 * GB, 989e12, 3350e9, 338e9),
    Device("A100-SXM4-40GB", 40 * GB, 312e12, 1555e9, 225e9),
    Device("A100-PCIE-40GB", 40 * GB, 312e12, 1555e9),
    Device("A100", 80 * GB, 312e12, 2039e9, 225e9),
    Device("L40S", 48 * GB, 362e12, 864e9),
    Device("A6000", 48 * GB, 155e12, 768e9),
    Device("A10", 24 * GB, 125e12, 600e9),
    Device("RTX 4090", 24 * GB, 165e12, 1008e9),
    Device("RTX 3090", 24 * GB, 71e12, 936e9),
)


def known_device(name: str) -> Device | None:
    """The published figures of a device by the driver's name for it, or by ours; None where it is not listed."""
    return next((device for device in KNOWN if device.name.lower() in name.lower()), None)


def peak_flops(name: str, precision: str) -> float | None:
    """Operations per second to compare with: what the environment states, else the data sheet's for bf16, else None.

    Raises UserError where SPASEMSR_PEAK_TFLOPS is no number.
    """
    if stated := os.environ.get(PEAK):
        try:
            return float(stated) * 1e12
        except ValueError:
            raise UserError(f"{PEAK}={stated!r} is no number.", "Give tera-operations per second, e.g. 989.") from None
    device = known_device(name)
    return device.flops if device is not None and precision == "bf16" else None
