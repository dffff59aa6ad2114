"""How much of what a model adds should be added? `python benchmarks/shares.py PHOTOGRAPHS [--model FOLDER]`.

Of every tenth photograph from the sixth on by name (the restorers were tuned on them; the model card has others) the
central 512 px, three presets: PSNR-Y minus bicubic's, ST-LPIPS, NIQE and the pattern of 8 px in grey levels, means
over photographs, by the share of the network's residual that is added to the restorer's image (`sample.share`). A model
whose ST-LPIPS falls and whose pattern rises is sharper by the numbers and dotted to the eye.
"""

import argparse
from pathlib import Path

import numpy as np
from nano import EVERY, PRESETS, SIDE

from spasemsr.data.pairs import Pair, make_pair, photographs
from spasemsr.determinism import pin_threads
from spasemsr.evaluation.artifacts import grid_strength
from spasemsr.evaluation.distances import FeatureDistance
from spasemsr.evaluation.metrics import niqe, psnr_y
from spasemsr.images.picture import Picture
from spasemsr.pixels import bicubic_upsample, to_pixels, to_tensor
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.upscaler import Upscaler

FIRST = 5
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", type=Path, default=Path("data/pretrained/nano"))
    parser.add_argument("--dial", type=float, default=0.5)
    parser.add_argument("--images", type=int, default=10)
    chosen = parser.parse_args()
    pin_threads()
    upscaler = Upscaler.from_pretrained(chosen.model, device="cpu")
    paths = photographs(chosen.photographs)[FIRST::EVERY][: chosen.images]
    pairs = {preset: [make_pair(path, preset, SIDE) for path in paths] for preset in PRESETS}
    print("| share | " + " | ".join(f"{preset}: PSNR-Y, ST-LPIPS, NIQE, pattern" for preset in PRESETS) + " |")
    print("|---" * (len(PRESETS) + 1) + "|")
    released, distance = upscaler.sampling, FeatureDistance("stlpips")
    for share in SHARES:
        upscaler.sampling = released.model_copy(update={"share": share})
        cells = []
        for shown in pairs.values():
            rows = [scores(upscaler, pair, chosen.dial, distance) for pair in shown]
            gain, far, unnatural, pattern = np.mean(rows, axis=0)
            cells.append(f"{gain:+.2f}, {far:.3f}, {unnatural:.2f}, {pattern:.2f}")
        print(f"| {share:g} | " + " | ".join(cells) + " |", flush=True)


def scores(upscaler: Upscaler, pair: Pair, dial: float, distance: FeatureDistance) -> tuple[float, float, float, float]:
    """PSNR-Y minus bicubic's, ST-LPIPS, NIQE and the pattern of one photograph."""
    plain = to_pixels(bicubic_upsample(to_tensor(pair.lr), upscaler.config.scale))[0]
    restored = upscaler.restore(Picture(pair.lr, None, ""), Settings(dial=dial, text="free")).picture.rgb8()
    gain = psnr_y(restored, pair.hr) - psnr_y(plain, pair.hr)
    return gain, distance(restored, pair.hr), niqe(restored), grid_strength(restored)


if __name__ == "__main__":
    main()
