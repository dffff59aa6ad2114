"""Products of matrices of fp32 on a CPU, by the library that is quick there.

torch hands them to Intel's MKL, which on other makers' CPUs leaves AVX-512 unused: 100 of 250 GFLOP/s on an AMD Zen 5.
oneDNN, which torch has for convolutions, uses it on all. It is asked through the operator that torch's compiler uses
for linear layers, for products large enough to outweigh what each call costs there.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

_LARGE = 2_000_000  # multiplications; with less, MKL is as quick or quicker


def product(a_MK: Tensor, b_KN: Tensor) -> Tensor:
    """(M, K) times (K, N)."""
    if a_MK.shape[0] * b_KN.numel() >= _LARGE and mkl_is_slow():
        # rows with gaps between them, as those of a part of a matrix, would go to a kernel a thousand times slower
        return torch.ops.mkldnn._linear_pointwise(a_MK.contiguous(), b_KN.contiguous().t(), None, "none", [], "")
    return torch.mm(a_MK, b_KN)


def products(a_MK: Tensor, b_BKN: Tensor) -> Tensor:
    """(M, K) times each of (B, K, N) -> (B, M, N)."""
    if a_MK.shape[0] * b_BKN[0].numel() >= _LARGE and mkl_is_slow():
        return torch.stack([product(a_MK, b_KN) for b_KN in b_BKN])
    return torch.bmm(a_MK.expand(len(b_BKN), *a_MK.shape), b_BKN)


@cache
def mkl_is_slow() -> bool:
    """Whether this is another maker's CPU with AVX-512; it is not measured, so that bits never depend on the hour."""
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    has_operator = hasattr(torch.ops.mkldnn, "_linear_pointwise")  # no public one: another torch may lack it
    if not (has_both and has_operator) or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    described = Path("/proc/cpuinfo")  # Linux alone has it; elsewhere MKL it is
    return described.is_file() and "AuthenticAMD" in described.read_text(errors="replace")
