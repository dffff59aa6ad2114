"""The rule behind the default of the nano weights: `python experiments/choose_default.py PHOTOGRAPHS [--model FOLDER]`.

Of sharpnesses of the restorer (`restore.sharpness`) and shares of what the network adds to its image (`sample.share`)
those with the least NIQE, mean over presets, among all that leave clean input alone: of what an area mean and nothing
else made small, no photograph may come out more than 0.05 dB below bicubic, since there is nothing to restore. Asked of
the whole model at dial 0.5, on every tenth photograph from the sixth on by name, which neither the network's training
nor the model card's tables have seen.

Prints PSNR-Y minus bicubic's, LPIPS, ST-LPIPS, NIQE and the pattern of 8 px in grey levels, means over photographs.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from spasemsr.backends.restorer.tiles import SCALE
from spasemsr.data.pairs import make_pair, photographs
from spasemsr.determinism import pin_threads
from spasemsr.evaluation.artifacts import grid_strength
from spasemsr.evaluation.distances import FeatureDistance
from spasemsr.evaluation.metrics import niqe, psnr_y
from spasemsr.images.picture import Picture
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor
from spasemsr.upscaling.settings import Settings
from spasemsr.upscaling.upscaler import Upscaler

SIDE, EVERY, TUNING = 512, 10, 5
PRESETS = ("camera", "stablesr", "seesr")
CLEAN = "clean"
SHARPNESSES, SHARES = (0.2, 0.25, 0.3), (0.25, 0.5, 0.75, 1.0)
LOST_CLEAN = 0.05  # dB
NIQE = 3  # its place among the measures


def main() -> None:
    """Print the table and what the rule chooses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", type=Path, default=Path("data/pretrained/nano"))
    parser.add_argument("--sharpness", type=float, action="append", help=f"default: {SHARPNESSES}")
    parser.add_argument("--share", type=float, action="append", help=f"default: {SHARES}")
    chosen = parser.parse_args()
    pin_threads()
    model, shown = Upscaler.from_pretrained(chosen.model, device="cpu"), list(pairs(chosen.photographs))
    distances = FeatureDistance("lpips"), FeatureDistance("stlpips")
    heads = (f"{preset}: PSNR-Y, LPIPS, ST-LPIPS, NIQE, pattern" for preset in PRESETS)
    print(f"| sharpness | share | {' | '.join(heads)} | clean, least |\n{'|---' * (len(PRESETS) + 3)}|")
    best: tuple[float, float, float] | None = None
    for sharpness in chosen.sharpness or SHARPNESSES:
        for share in chosen.share or SHARES:
            upscaler, clean = with_settings(model, sharpness, share), []
            rows: dict[str, list[tuple[float, ...]]] = {preset: [] for preset in PRESETS}
            for preset, hr, lr in shown:
                restored = upscaler.restore(Picture(lr, None, ""), Settings(text="free")).picture.rgb8()
                gain = psnr_y(restored, hr) - psnr_y(to_pixels(bicubic_upsample(to_tensor(lr), SCALE))[0], hr)
                if preset == CLEAN:
                    clean.append(gain)
                    continue
                far = (distance(restored, hr) for distance in distances)
                rows[preset].append((gain, *far, niqe(restored), grid_strength(restored)))
            means: npt.NDArray[np.float64] = np.mean(np.array(list(rows.values())), axis=1)
            cells = (f"{m[0]:+.2f}, {m[1]:.3f}, {m[2]:.3f}, {m[3]:.2f}, {m[4]:.2f}" for m in means)
            print(f"| {sharpness:g} | {share:g} | {' | '.join(cells)} | {min(clean):+.2f} |", flush=True)
            if min(clean) >= -LOST_CLEAN:
                found = float(means[:, NIQE].mean()), sharpness, share
                best = min(best or found, found)
    print(
        "\nnone leaves clean input alone" if best is None else f"\nrestore.sharpness: {best[1]:g}, share: {best[2]:g}"
    )


def pairs(folder: Path) -> Iterator[tuple[str, ImageU8, ImageU8]]:
    """(preset, hr, lr) of each photograph's central square."""
    for path in photographs(folder)[TUNING::EVERY]:
        made = [make_pair(path, preset, SIDE) for preset in PRESETS]
        yield from ((preset, pair.hr, pair.lr) for preset, pair in zip(PRESETS, made, strict=True))
        hr = made[0].hr
        small = Image.fromarray(hr).resize((hr.shape[1] // SCALE, hr.shape[0] // SCALE), Image.Resampling.BOX)
        yield CLEAN, hr, np.asarray(small)


def with_settings(model: Upscaler, sharpness: float, share: float) -> Upscaler:
    """The model with another default."""
    inference = model.config.inference
    restore = inference.restore.model_copy(update={"sharpness": sharpness})
    config = model.config.model_copy(update={"inference": inference.model_copy(update={"restore": restore})})
    return Upscaler(model.method, config, model.sampling.model_copy(update={"share": share}))


if __name__ == "__main__":
    main()
