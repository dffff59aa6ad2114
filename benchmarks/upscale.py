"""How long restoring takes: `python benchmarks/upscale.py PHOTOGRAPH [--rounds N]`, from one picture of any size.

128x128 and 1000x700 pixels of it, four times enlarged at the default setting in a running process, then 1000x700 by the
command, from the start of its process to its end; each beside one pass of a plain Compact network of the size of
realesr-general-x4v3 (SRVGGNet: 64 features, 32 convolutions, random weights, spandrel's code). All take turns, so that
what else the machine does falls on all alike. Prints seconds by the clock and of all cores, medians over rounds, and
the ratio to Compact within a round. Every round has pixels of its own, since the last picture is remembered.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from spandrel.architectures.Compact import Compact

from spasemsr.determinism import cores, pin_threads, torch_threads
from spasemsr.heap import reuse_freed_memory
from spasemsr.pixels import to_pixels, to_tensor
from spasemsr.upscaling.upscaler import Upscaler

SMALL, LARGE = (128, 128), (1000, 700)
ROWS = ("Compact, 128x128", "ours, 128x128", "Compact, 1000x700", "ours, 1000x700", "command, 1000x700")

Seconds = tuple[float, float]  # by the clock, of all cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="data/pretrained/nano")
    chosen = parser.parse_args()
    reuse_freed_memory()
    upscaler = Upscaler.from_pretrained(chosen.weights, device="cpu")
    torch.manual_seed(0)
    compact = Compact(num_feat=64, num_conv=32, upscale=4, act_type="prelu").eval().requires_grad_(False)
    pin_threads()
    with Image.open(chosen.photograph) as image:
        width, height = (side + chosen.rounds for side in LARGE)
        photograph = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    upscaler(photograph.crop((0, 0, 64, 64)))  # everything is loaded
    taken: dict[str, list[Seconds]] = {row: [] for row in ROWS}
    for first in range(chosen.rounds):
        small, large = (photograph.crop((first, first, first + w, first + h)) for w, h in (SMALL, LARGE))
        for row, work in zip(ROWS, works(upscaler, compact, small, large, chosen.weights), strict=True):
            taken[row].append(timed(work))
            print(f"round {first + 1}: {row:18} {taken[row][-1][0]:7.2f} s, {taken[row][-1][1]:7.2f} CPU s", flush=True)
    print(f"\n{cores()} cores, load average {os.getloadavg()[0]:.1f}; medians of {chosen.rounds} rounds\n")
    print("| | s by the clock | CPU s | CPU, times Compact |\n|---|---|---|---|")
    for row in ROWS:
        clock, used = (statistics.median(each) for each in zip(*taken[row], strict=True))
        reference = taken[f"Compact, {row.split(', ')[1]}"]
        times = statistics.median(a / b for (_, a), (_, b) in zip(taken[row], reference, strict=True))
        print(f"| {row} | {clock:.2f} | {used:.2f} | {times:.2f} |")


def works(
    upscaler: Upscaler, compact: torch.nn.Module, small: Image.Image, large: Image.Image, weights: str
) -> list[Callable[[], object]]:
    """What is timed, in the order of `ROWS`."""

    def plain(image: Image.Image) -> object:
        with torch.inference_mode(), torch_threads(cores()):
            return to_pixels(compact(to_tensor(np.asarray(image)).contiguous()))

    def command() -> None:
        with tempfile.TemporaryDirectory() as folder:
            large.save(source := Path(folder) / "photograph.png")
            words = ["upscale", str(source), "-o", str(Path(folder) / "out.png"), "--weights", weights]
            subprocess.run([sys.executable, "-m", "pipeline", *words], check=True, capture_output=True)

    return [lambda: plain(small), lambda: upscaler(small), lambda: plain(large), lambda: upscaler(large), command]


def timed(work: Callable[[], object]) -> Seconds:
    """Seconds by the clock and of all cores, of this process and of those it starts."""
    before, start = _used(), time.perf_counter()
    work()
    return time.perf_counter() - start, _used() - before


def _used() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
