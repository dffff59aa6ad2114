"""The README's picture from what `benchmarks/nano.py` wrote: `python benchmarks/nano_picture.py OUT docs/nano.jpg`.

The central 256 px of the first eight photographs by name, the presets in turn: bicubic, default, sharp, side by side.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

PRESETS, METHODS = ("camera", "stablesr", "seesr"), ("bicubic", "default", "sharp")
SHOWN, SIDE, GAP = 8, 256, 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder that nano.py wrote")
    parser.add_argument("picture", type=Path)
    chosen = parser.parse_args()
    names = sorted(path.name for path in (chosen.out / PRESETS[0] / METHODS[0]).glob("*.png"))[:SHOWN]
    strips = []
    for i, name in enumerate(names):
        preset = chosen.out / PRESETS[i % len(PRESETS)]
        strips.append(np.concatenate([centre(preset / method / name) for method in METHODS], axis=1))
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    rows = [np.concatenate([left, gap, right], axis=1) for left, right in zip(strips[::2], strips[1::2], strict=True)]
    Image.fromarray(np.concatenate(rows)).save(chosen.picture, quality=92)


def centre(path: Path) -> np.ndarray:
    """The central square of a picture, (SIDE, SIDE, 3) uint8."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    y, x = ((length - SIDE) // 2 for length in pixels.shape[:2])
    return pixels[y : y + SIDE, x : x + SIDE]


if __name__ == "__main__":
    main()
