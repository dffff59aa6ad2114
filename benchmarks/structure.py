"""Structure told from texture in the probe's world: `python benchmarks/structure.py BEFORE AFTER [--method spasemsr]`.

Both are folders of pictures that stage evaluate left, `reports/images/<method>` of two runs on the same scenes. The
means of the 4x4 cells of a scene are structure, which lr shows; what is left is texture, which it cannot. Prints AFTER
minus BEFORE in PSNR-Y of the means, of what is left and of both, with 95 % bootstrap intervals over scenes.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from spasemsr.evaluation.intervals import interval
from spasemsr.evaluation.metrics import luma

CELL = 4
PARTS = ("means", "texture", "both")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--method", default="spasemsr")
    chosen = parser.parse_args()
    before, after = (scores(folder, chosen.method) for folder in (chosen.before, chosen.after))
    for part in PARTS:
        gains = {key: after[key][part] - before[key][part] for key in before}
        low, high = interval(gains, 0, "structure", part) or (float("nan"), float("nan"))
        print(f"{part:<8} {np.mean(list(gains.values())):+.2f} dB [{low:+.2f}, {high:+.2f}], {len(gains)} scenes")


def scores(folder: Path, method: str) -> dict[str, dict[str, float]]:
    """By key, PSNR-Y in dB of each part."""
    found = {}
    for path in sorted(folder.glob("*.hr.png")):
        key = path.name.removesuffix(".hr.png")
        hr, made = (parts(read(folder / f"{key}.{name}.png")) for name in ("hr", method))
        found[key] = {part: float(-10 * np.log10(np.mean((hr[part] - made[part]) ** 2))) for part in PARTS}
    return found


def parts(y_HW: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    """Luma in [0, 1], sides multiples of `CELL`: the means of its cells, what is left, and itself."""
    height, width = y_HW.shape
    means = y_HW.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3))
    return {"means": means, "texture": y_HW - np.kron(means, np.ones((CELL, CELL))), "both": y_HW}


def read(path: Path) -> npt.NDArray[np.float64]:
    """The luma of a picture."""
    with Image.open(path) as image:
        return luma(np.asarray(image.convert("RGB"))).astype(np.float64)


if __name__ == "__main__":
    main()
