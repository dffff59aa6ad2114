"""The picture of what saying does: `python docs/said.py docs/said.jpg`.

A photograph of scikit-image, a third of its size, by the shipped weights: as found, and with one area between the eyes
and behind them called "marked texture", "strong texture" and "smooth surface".
"""

import sys
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from spasemsr.upscaling.upscaler import Upscaler

AREA = "0.45,0.2,0.95,0.6"
SAID = ("", f"marked texture@{AREA}", f"strong texture@{AREA}", f"smooth surface@{AREA}")


def main(picture: Path) -> None:
    """Four restorations, two and two."""
    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as image:
        small = image.convert("RGB").resize((image.width // 3, image.height // 3), Image.BOX)
    upscaler = Upscaler.from_pretrained("data/pretrained/nano")
    made = [np.asarray(upscaler(small, tags=(tag,) if tag else (), text="free")) for tag in SAID]
    rows = [np.concatenate(pair, axis=1) for pair in (made[:2], made[2:])]
    Image.fromarray(np.concatenate(rows)).save(picture, quality=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
