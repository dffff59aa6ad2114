"""Seconds and memory of ingest on a folder of very many tiny files.

    python benchmarks/ingest.py [--files 100000] [--json]

Half are PNG files of their own content, too small for a patch, so each is read, hashed, decoded and rejected with a
line; half are not images. Three real pictures lie among them. Creating the files and starting Python do not count.
"""

import argparse
import json
import logging
import os
import resource
import struct
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pipeline.engine.executors import Serial
from pipeline.stages import ingest
from spasemsr.config import load_params

ROOT = Path(__file__).parent.parent


def tiny_png(number: int) -> bytes:
    """One pixel whose file no other number has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, row = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0), b"\0" + struct.pack(">I", number)[1:]
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def fill(folder: Path, files: int) -> None:
    for start in range(0, files, 1000):
        inner = folder / f"{start:08d}"
        inner.mkdir(parents=True)
        for number in range(start, min(start + 1000, files), 2):
            (inner / f"{number:08d}.png").write_bytes(tiny_png(number))
            (inner / f"{number:08d}.txt").write_text("no image")
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    args = parser.parse_args()
    logging.disable()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "photographs", args.files)
        params["photographs"] = "photographs"
        params["embedded"]["data"] |= {"packages": [], "max_reject_rate": 1.0}
        os.environ["SPASEMSR_CACHE"] = str(folder / "cache")
        os.chdir(folder)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            ingest.run(load_params(), Serial())
            seconds.append(round(time.perf_counter() - start, 2))
        report = json.loads(Path("reports/ingest.json").read_text())
        os.chdir(ROOT)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"seconds": seconds[0], "again": seconds[1], "peak_mb": round(peak), "rejects": report["rejects"]}
    result["ignored"] = report["ignored_files"]
    print(json.dumps(result) if args.json else f"{args.files} files: {result}")


if __name__ == "__main__":
    main()
