"""What weights of the sharp end's network do: `python experiments/measure_crisp.py PHOTOGRAPHS WEIGHTS [WEIGHTS ...]`.

For every file of weights (the `crisp.safetensors` that crisp.py writes), preset and share of its image in a mean with
the default's (`SHARPEST` is what ships): means of PSNR-Y minus bicubic's, ST-LPIPS, LPIPS and NIQE. Asked of the
restorer alone, on every tenth photograph from the sixth on by name, which nothing was trained on and on which choices
are made; `--first 0` asks the photographs of the model card, by which nothing is chosen.
"""

import argparse
from pathlib import Path

import numpy as np
from choose_sharpness import EVERY, SIDE, TUNING

from spasemsr.backends.restorer.aware import AwareRestorer
from spasemsr.backends.restorer.crisp import CrispRestorer, MeanRestorer
from spasemsr.backends.restorer.tiles import SCALE
from spasemsr.data.pairs import Pair, make_pair, photographs
from spasemsr.evaluation.distances import FeatureDistance
from spasemsr.evaluation.metrics import niqe, psnr_y
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor

PRESETS = ("camera", "stablesr")
DEFAULT = 0.2  # sharpness of the image that takes part in the mean
SHARES = (1.0, 0.9)


class Measures:
    """The figures of one image."""

    def __init__(self) -> None:
        self._tolerant, self._exact = FeatureDistance("stlpips"), FeatureDistance("lpips")

    def of(self, image: ImageU8, pair: Pair) -> tuple[float, float, float, float]:
        """PSNR-Y minus that of bicubic, ST-LPIPS, LPIPS and NIQE."""
        plain = to_pixels(bicubic_upsample(to_tensor(pair.lr), SCALE))[0]
        gain = psnr_y(image, pair.hr) - psnr_y(plain, pair.hr)
        return gain, self._tolerant(image, pair.hr), self._exact(image, pair.hr), niqe(image)


def main() -> None:
    """Print a row for each file of weights and share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--first", type=int, default=TUNING, help="of the photographs by name; each tenth follows")
    parser.add_argument("--each", action="store_true", help="print every photograph's figures too")
    chosen = parser.parse_args()
    measures, paths = Measures(), photographs(chosen.photographs)[chosen.first :: EVERY]
    default = AwareRestorer("cpu", sharpness=DEFAULT)
    print("| weights | share | " + " | ".join(f"{preset}: PSNR-Y, ST-LPIPS, LPIPS, NIQE" for preset in PRESETS) + " |")
    print("|---" * (len(PRESETS) + 2) + "|")
    for weights in chosen.weights:
        crisp = CrispRestorer("cpu", weights=weights)
        restorers = [MeanRestorer(default, crisp, share) for share in SHARES]
        cells: list[list[str]] = [[] for _ in SHARES]
        for preset in PRESETS:
            pairs = [make_pair(path, preset, SIDE) for path in paths]
            for restorer, row in zip(restorers, cells, strict=True):
                found = [measures.of(restorer.restore([pair.lr], SCALE)[0], pair) for pair in pairs]
                for path, figures in zip(paths, found, strict=True):
                    if chosen.each:
                        print(f"  {preset} {path.stem}: {said(figures)}")
                row.append(said(np.mean(found, axis=0)))
        for share, row in zip(SHARES, cells, strict=True):
            print(f"| {weights} | {share:g} | " + " | ".join(row) + " |", flush=True)


def said(figures: np.ndarray | tuple[float, ...]) -> str:
    """Four figures of a cell."""
    gain, tolerant, exact, unnatural = figures
    return f"{gain:+.2f}, {tolerant:.3f}, {exact:.3f}, {unnatural:.2f}"


if __name__ == "__main__":
    main()
