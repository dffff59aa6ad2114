"""What weights of the sharp end's network do: `python experiments/measure_crisp.py PHOTOGRAPHS WEIGHTS [WEIGHTS ...]`.

For all WEIGHTS, presets and shares of their image in a mean with the default's (1 is what ships): means of PSNR-Y minus
bicubic's, ST-LPIPS, LPIPS and NIQE. WEIGHTS is what crisp.py writes, `crisp.safetensors` or `state.pt`, which is not
rounded to eight bits; `A+B` is the mean of two files' weights, and `--keep FILE` writes the last. Asked of the restorer
alone, on every tenth photograph from the sixth on by name, which nothing was trained on and on which choices are made;
`--first 0` asks the photographs of the model card.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from choose_default import EVERY, SIDE, TUNING
from torch import Tensor

from spasemsr.backends.restorer.aware import AwareRestorer
from spasemsr.backends.restorer.crisp import CrispRestorer, MeanRestorer
from spasemsr.backends.restorer.crisp_network import CrispNetwork
from spasemsr.backends.restorer.tiles import SCALE
from spasemsr.data.pairs import Pair, make_pair, photographs
from spasemsr.evaluation.distances import FeatureDistance
from spasemsr.evaluation.metrics import niqe, psnr_y
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor
from spasemsr.weights.eight_bits import packed, unpacked
from spasemsr.weights.tensors import read_state_dict, save_tensors

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
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--first", type=int, default=TUNING, help="of the photographs by name; each tenth follows")
    parser.add_argument("--each", action="store_true", help="print every photograph's figures too")
    parser.add_argument("--keep", type=Path, help="write the last weights, in eight bits")
    chosen = parser.parse_args()
    measures, paths = Measures(), photographs(chosen.photographs)[chosen.first :: EVERY]
    default = AwareRestorer("cpu", sharpness=DEFAULT)
    print("| weights | share | " + " | ".join(f"{preset}: PSNR-Y, ST-LPIPS, LPIPS, NIQE" for preset in PRESETS) + " |")
    print("|---" * (len(PRESETS) + 2) + "|")
    folder = tempfile.TemporaryDirectory()
    for number, weights in enumerate(chosen.weights):
        file = (
            chosen.keep
            if chosen.keep and weights == chosen.weights[-1]
            else Path(folder.name) / f"{number}.safetensors"
        )
        save_tensors(file, packed(mean_of([Path(name) for name in weights.split("+")])))
        crisp = CrispRestorer("cpu", weights=file)
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


def mean_of(files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights of several files, tensor by tensor."""
    held = [weights_in(file) for file in files]
    return {name: torch.stack([each[name].float() for each in held]).mean(0) for name in held[0]}


def weights_in(file: Path) -> dict[str, Tensor]:
    """Those of a file of weights, or the running mean of a training's state."""
    if file.suffix != ".pt":
        return unpacked(read_state_dict(file))
    average = torch.load(file, map_location="cpu", weights_only=True)["average"]
    return dict(zip((name for name, _ in CrispNetwork().named_parameters()), average, strict=True))


def said(figures: np.ndarray | tuple[float, ...]) -> str:
    """Four figures of a cell."""
    gain, tolerant, exact, unnatural = figures
    return f"{gain:+.2f}, {tolerant:.3f}, {exact:.3f}, {unnatural:.2f}"


if __name__ == "__main__":
    main()
