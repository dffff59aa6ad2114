"""What every worker is given before it computes: one thread, deterministic libraries, true fp32, its own GPU, lanes.

A result's bits must not depend on the number of cores, so libraries that are not imported yet are told through the
environment and those that are, directly.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LANES = 3
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS refuses deterministic algorithms
    "ACCELERATE_DYNAMO_BACKEND": "no",  # with a compiler, which a launcher may name, accelerate turns TF32 on
}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One intra-op thread and deterministic algorithms inside; the former settings afterwards."""
    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    torch = sys.modules.get("torch")
    strictness = torch.get_deterministic_debug_mode() if torch is not None else "default"
    with single_threaded():
        os.environ.update(_ENVIRONMENT)
        pin_threads()
        try:
            yield
        finally:
            for name, value in environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            if torch := sys.modules.get("torch"):
                torch.set_deterministic_debug_mode(strictness)


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """One intra-op thread for OpenCV and torch and fp32 without TF32, if they are imported; afterwards as before."""
    cv2, torch = sys.modules.get("cv2"), sys.modules.get("torch")
    former = cv2.getNumThreads() if cv2 is not None else 0, torch.get_num_threads() if torch is not None else 0
    products = _fp32_products() if torch is not None else None
    _one_each()
    try:
        yield
    finally:
        if cv2 is not None:
            cv2.setNumThreads(former[0])
        if torch is not None and products is not None:
            torch.set_num_threads(former[1])
            _compute_fp32_products(*products)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many intra-op threads of torch inside, for convolutions and what goes pixel by pixel.

    Their bits do not depend on the number, unlike those of matrix products.
    """
    import torch

    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pin_threads() -> None:
    """Pin OpenCV and torch for good, if they are imported; call again after building what may import them."""
    _one_each()
    os.environ["ACCELERATE_DYNAMO_BACKEND"] = _ENVIRONMENT["ACCELERATE_DYNAMO_BACKEND"]
    if torch := sys.modules.get("torch"):
        # The same switch as use_deterministic_algorithms(True), which would import the compiler: five seconds.
        torch.set_deterministic_debug_mode("error")
        # It also fills memory that is about to be written: a twentieth of a small network's time on a CPU.
        torch.utils.deterministic.fill_uninitialized_memory = False


def _one_each() -> None:
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        _compute_fp32_products("ieee", "ieee", "ieee")


def _fp32_products() -> tuple[str, str, str]:
    """How a GPU multiplies float32 numbers: unless told otherwise, in convolutions, in recurrent layers."""
    backends = sys.modules["torch"].backends
    return backends.fp32_precision, backends.cudnn.conv.fp32_precision, backends.cudnn.rnn.fp32_precision


def _compute_fp32_products(general: str, convolutions: str, recurrent: str) -> None:
    """Set what `_fp32_products` returns: "ieee", "tf32" or "none", which is as a library likes.

    torch lets cuDNN round the factors of float32 convolutions to TF32, 10 bits of mantissa instead of 23. Here
    `precision: fp32` means float32, and whoever wants speed says bf16. The older switch is set as well, since torch
    raises where a library reads it and the two disagree.
    """
    backends = sys.modules["torch"].backends
    backends.cudnn.allow_tf32 = convolutions == "tf32"
    backends.fp32_precision = general
    backends.cudnn.conv.fp32_precision = convolutions
    backends.cudnn.rnn.fp32_precision = recurrent


def lanes() -> ThreadPoolExecutor:
    """Threads that handle items: others read or store while one computes (in a thread of the handler's own)."""
    return ThreadPoolExecutor(LANES, thread_name_prefix="lane")


def take_device(index: int) -> None:
    """Give worker i the i-th visible GPU (modulo their number) as its only one; call before torch is imported."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        visible = ",".join(str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*")))
    if devices := [device for device in visible.split(",") if device.strip()]:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
