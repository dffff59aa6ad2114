"""The rule behind `restore.sharpness`: `python experiments/choose_sharpness.py PHOTOGRAPHS`.

Of 0, 0.1, ... 1 the sharpness with the least ST-LPIPS, mean over presets, among those that hardly cost truth: the mean
PSNR-Y over presets is at most 0.1 dB below that of sharpness 0, and on clean input (an area mean and nothing else),
where there is nothing to restore, no photograph falls more than 0.05 dB below bicubic. Asked of the restorer alone,
on every tenth photograph from the sixth on by name, which neither its training nor the model card's tables have seen.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from spasemsr.backends.restorer.aware import AwareRestorer
from spasemsr.backends.restorer.tiles import SCALE
from spasemsr.data.pairs import make_pair, photographs
from spasemsr.evaluation.distances import FeatureDistance
from spasemsr.evaluation.metrics import niqe, psnr_y
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor

SIDE, EVERY, TUNING = 512, 10, 5
PRESETS = ("camera", "stablesr", "seesr")
CLEAN = "clean"
SHARPNESSES = tuple(step / 10 for step in range(11))
LOST, LOST_CLEAN = 0.1, 0.05  # dB


def pairs(folder: Path) -> list[tuple[str, ImageU8, ImageU8]]:
    """(preset, hr, lr) of each photograph's central square."""
    found = []
    for path in photographs(folder)[TUNING::EVERY]:
        made = [make_pair(path, preset, SIDE) for preset in PRESETS]
        found += [(preset, pair.hr, pair.lr) for preset, pair in zip(PRESETS, made, strict=True)]
        hr = made[0].hr
        small = Image.fromarray(hr).resize((hr.shape[1] // SCALE, hr.shape[0] // SCALE), Image.Resampling.BOX)
        found.append((CLEAN, hr, np.asarray(small)))
    return found


def main() -> None:
    """Print the table and what the rule chooses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    shown, distance = pairs(parser.parse_args().photographs), FeatureDistance("stlpips")
    plain = [psnr_y(to_pixels(bicubic_upsample(to_tensor(lr), SCALE))[0], hr) for _, hr, lr in shown]
    print(
        "| sharpness | " + " | ".join(f"{preset}: PSNR-Y, ST-LPIPS, NIQE" for preset in PRESETS) + " | clean, least |"
    )
    print("|---" * (len(PRESETS) + 2) + "|")
    faithful, best = np.array([]), (np.inf, 0.0)
    for sharpness in SHARPNESSES:
        restorer, rows = AwareRestorer("cpu", sharpness=sharpness), []
        for (preset, hr, lr), reference in zip(shown, plain, strict=True):
            restored = restorer.restore([lr], SCALE)[0]
            seen = (np.nan, np.nan) if preset == CLEAN else (distance(restored, hr), niqe(restored))
            rows.append((preset, psnr_y(restored, hr) - reference, *seen))
        means = np.array([np.mean([row[1:] for row in rows if row[0] == name], axis=0) for name in PRESETS])
        least = min(row[1] for row in rows if row[0] == CLEAN)
        cells = [f"{gain:+.2f}, {far:.3f}, {unnatural:.2f}" for gain, far, unnatural in means]
        print(f"| {sharpness:g} | " + " | ".join(cells) + f" | {least:+.2f} |", flush=True)
        faithful = faithful if faithful.size else means[:, 0]
        if least >= -LOST_CLEAN and means[:, 0].mean() >= faithful.mean() - LOST:
            best = min(best, (float(means[:, 1].mean()), sharpness))
    print(f"\nrestore.sharpness: {best[1]:g}")


if __name__ == "__main__":
    main()
