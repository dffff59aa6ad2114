"""Do results go the way a person's words say? `python benchmarks/said.py PHOTOGRAPHS [--model FOLDER]`.

Of every tenth photograph by name from the sixth on, none of which the nano weights were trained on, the central 256 px,
degraded as by a camera: two areas, whatever they show, are called by a strength. Prints by how many decibels the energy
finer than a Gaussian blur of 2 px changes inside them, mean and standard deviation over areas: below 0 is less detail.
"""

import argparse
from pathlib import Path

import numpy as np
from nano import EVERY
from PIL import Image
from scipy.ndimage import gaussian_filter

from spasemsr.backends.extractors.texture_words import SMOOTH, STRENGTHS
from spasemsr.data.pairs import make_pair, photographs
from spasemsr.determinism import pin_threads
from spasemsr.upscaling.upscaler import Upscaler

FIRST, PRESET, SIDE = 5, "camera", 256
AREAS = ((0.1, 0.1, 0.4, 0.4), (0.55, 0.55, 0.9, 0.9))  # x0 y0 x1 y1, shares of the picture
WORDS = (SMOOTH, *(f"{strength} texture" for strength in STRENGTHS))
MARGIN = 4  # pixels inside an area's edge that are not looked at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", type=Path, default=Path("data/pretrained/nano"))
    chosen = parser.parse_args()
    pin_threads()
    upscaler = Upscaler.from_pretrained(chosen.model)
    changes: dict[str, list[float]] = {word: [] for word in WORDS}
    for path in photographs(chosen.photographs)[FIRST::EVERY]:
        lr = Image.fromarray(make_pair(path, PRESET, SIDE).lr)
        found = upscaler(lr, tags=(), text="free")
        for area in AREAS:
            place = ",".join(map(str, area))
            for word in WORDS:
                said = upscaler(lr, tags=(f"{word}@{place}",), text="free")
                changes[word].append(10 * float(np.log10(energy(said, area) / energy(found, area))))
    print("| said | change of detail, dB | standard deviation |\n|---|---|---|")
    for word, values in changes.items():
        print(f"| {word} | {np.mean(values):+.2f} | {np.std(values):.2f} |")


def energy(picture: Image.Image, area: tuple[float, float, float, float]) -> float:
    """Mean square of what is finer than a blur, in grey levels, inside an area."""
    grey = np.asarray(picture, np.float64).mean(axis=-1)
    fine = grey - gaussian_filter(grey, 2)
    height, width = grey.shape
    rows, columns = (
        slice(int(low * side) + MARGIN, int(high * side) - MARGIN)
        for low, high, side in ((area[1], area[3], height), (area[0], area[2], width))
    )
    return float(np.mean(fine[rows, columns] ** 2))


if __name__ == "__main__":
    main()
