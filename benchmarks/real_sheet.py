"""Real small pictures beside their restorations: `python benchmarks/real_sheet.py PICTURES RESTORED docs/real.jpg`.

RESTORED is what `spasemsr upscale PICTURES -o RESTORED --format png` wrote. Of each picture, by name, the piece with
most detail: bicubic on the left, restored on the right, three pairs a row.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from spasemsr.data.pairs import SCALE, photographs, read_photograph
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor

SIDE, COLUMNS, GAP = 240, 3, 8  # pixels of the result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("restored", type=Path)
    parser.add_argument("sheet", type=Path)
    chosen = parser.parse_args()
    pairs = []
    for path in photographs(chosen.pictures):
        lr = read_photograph(path)
        restored = read_photograph(chosen.restored / f"{path.stem}_x4.png")
        bicubic = to_pixels(bicubic_upsample(to_tensor(lr), SCALE))[0]
        y, x = most_detail(bicubic)
        pairs.append(np.concatenate([cell(bicubic, y, x), cell(restored, y, x)], axis=1))
    pairs += [np.full_like(pairs[0], 255)] * (-len(pairs) % COLUMNS)
    rows = [np.concatenate(pairs[i : i + COLUMNS], axis=1) for i in range(0, len(pairs), COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(chosen.sheet, quality=88)


def most_detail(picture: ImageU8) -> tuple[int, int]:
    """Top and left of the square of SIDE pixels, every quarter of it tried, in which neighbours differ most."""
    gray = picture.mean(2)
    change = np.abs(np.diff(gray, axis=0))[:, 1:] + np.abs(np.diff(gray, axis=1))[1:]
    places = [
        (y, x)
        for y in range(0, max(len(change) - SIDE, 0) + 1, SIDE // 4)
        for x in range(0, max(change.shape[1] - SIDE, 0) + 1, SIDE // 4)
    ]
    return max(places, key=lambda place: change[place[0] : place[0] + SIDE, place[1] : place[1] + SIDE].mean())


def cell(picture: ImageU8, y: int, x: int) -> ImageU8:
    """The square there, with a white margin on the right and below; a smaller picture is filled up with white."""
    framed = np.full((SIDE + GAP, SIDE + GAP, 3), 255, np.uint8)
    shown = picture[y : y + SIDE, x : x + SIDE]
    framed[: len(shown), : shown.shape[1]] = shown
    return framed


if __name__ == "__main__":
    main()
