"""What words of textures can tell, and what they do: `python benchmarks/textures.py PHOTOGRAPHS [--model FOLDER]`.

Of every tenth photograph by name, none of which the nano weights were trained on, the central 256 px:

- how often the recogniser is right about a cell's strength, by preset, against measuring the restored image itself;
- by how much the denoising error of MODEL changes, against guessed areas, where those of hr are said, their opposites,
  or the same of all areas. Paired by picture and noise, with a 95 % bootstrap interval over photographs;
- how much of the strength of hr's detail MODEL knows without a word: the share of its variance over places (the
  logarithm of the local deviation of the finest channels of Y) that a line explains by what it predicts from latents
  noised to t, and by the restored image. What is left is all that a word about strength can add.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import guidance
import numpy as np
from guidance import PRESET, bounds, denoiser, denoising_errors
from nano import EVERY
from torch import Tensor
from torch.nn import functional

from pipeline.tools.audit import make_sample
from spasemsr.backends.extractors.texture import TextureClasses
from spasemsr.backends.extractors.texture_words import SMOOTH, TEXTURES, opposite
from spasemsr.backends.grounding.texture_areas import TextureAreas
from spasemsr.data.dataset import Batch
from spasemsr.data.pairs import make_pair, photographs
from spasemsr.determinism import pin_threads
from spasemsr.evaluation.conditions import in_state, retagged
from spasemsr.evaluation.intervals import interval
from spasemsr.methods.latent import LatentDiffusion
from spasemsr.methods.truth import Truth
from spasemsr.upscaling.upscaler import Upscaler

SIDE, TIMESTEPS = 256, (200, 400, 600, 800)
PRESETS = ("camera", "stablesr", "seesr")
KNOWN_AT = (0, 200, 400, 600, 800, 999)
FINEST, WINDOW = [3, 12, 15], 4  # channels of block_dct (keep 4): along x, along y, both; latent cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", type=Path, default=Path("data/pretrained/nano"))
    parser.add_argument("--images", type=int, default=11)
    chosen = parser.parse_args()
    pin_threads()
    upscaler = Upscaler.from_pretrained(chosen.model, device="cpu")
    paths = photographs(chosen.photographs)[::EVERY][: chosen.images]
    print("| preset | strength guessed right | measured on the restored image |\n|---|---|---|")
    for preset in PRESETS:
        guessed, measured = np.mean([recognised(upscaler, path, preset) for path in paths], axis=0)
        print(f"| {preset} | {guessed:.1%} | {measured:.1%} |", flush=True)
    print(f"\n| areas, change of the error in % | {' | '.join(f't = {t}' for t in TIMESTEPS)} |\n|---|{'---|' * 4}")
    for line in said(upscaler, paths):
        print(line, flush=True)
    print("\n| without words | " + " | ".join(f"t = {t}" for t in KNOWN_AT) + " | restored image |")
    print(f"|---|{'---|' * (len(KNOWN_AT) + 1)}")
    print("| strength known | " + " | ".join(f"{share:.0%}" for share in known(upscaler, paths)) + " |")


def recognised(upscaler: Upscaler, path: Path, preset: str) -> tuple[float, float]:
    """Shares of the cells of a photograph whose strength is right: guessed, and measured on the restored image."""
    pair = make_pair(path, preset, SIDE)
    shown, textures = upscaler.restorer.restore([pair.lr], 4)[0], upscaler.config.inference.ground.textures
    assert textures is not None
    truth, seen = (TextureClasses().extract([picture])[0][0] // 4 for picture in (pair.hr, shown))
    guessed = TextureAreas(textures)._guessed(shown).reshape(4, 4, *truth.shape).sum(axis=1).argmax(axis=0)
    return float(np.mean(guessed == truth)), float(np.mean(seen == truth))


def said(upscaler: Upscaler, paths: list[Path]) -> Iterator[str]:
    """A row for each way to say textures."""
    guidance.TIMESTEPS = TIMESTEPS
    method, sampling = upscaler.method, upscaler.sampling
    assert isinstance(method, LatentDiffusion)
    truth = Truth(method, upscaler.config.inference.ground)
    changes: dict[str, dict[str, np.ndarray]] = {}
    for path in paths:
        sample = make_sample(upscaler, path, PRESET, SIDE)
        own = denoising_errors(method, sample, sample.batch, range(1), sampling)
        for name, batch in ways(sample.batch, truth.of(sample.batch, sample.hr)):
            ratio = denoising_errors(method, sample, batch, range(1), sampling) / own
            changes.setdefault(name, {})[sample.key] = 100 * (ratio.mean(axis=1) - 1)
    for name, by_key in changes.items():
        cells = []
        for i in range(len(TIMESTEPS)):
            values = {key: float(change[i]) for key, change in by_key.items()}
            low, high = interval(values, 0, "error", name, str(i)) or (None, None)
            cells.append(f"{np.mean(list(values.values())):+.2f}{bounds({'low': low, 'high': high}, 2)}")
        yield f"| {name} | {' | '.join(cells)} |"


def ways(own: Batch, truth: Batch) -> Iterator[tuple[str, Batch]]:
    """The batch with other words for its areas."""
    yield "measured on hr", truth
    yield "the opposite of what hr has", renamed(truth, opposite)
    yield "all smooth", renamed(own, lambda tag: SMOOTH)
    yield "all strong and level", renamed(own, lambda tag: "strong level texture")


def renamed(batch: Batch, change: Callable[[str], str]) -> Batch:
    """The batch with its areas called otherwise; things keep their names."""
    return retagged(batch, [change(tag) if tag in TEXTURES else tag for tag in batch.objects[0].tags])


def known(upscaler: Upscaler, paths: list[Path]) -> list[float]:
    """Shares of the variance of strength that are explained, by timestep, then by the restored image."""
    method, sampling = upscaler.method, upscaler.sampling
    assert isinstance(method, LatentDiffusion)
    seen: list[list[np.ndarray]] = [[] for _ in range(len(KNOWN_AT) + 2)]
    for path in paths:
        sample = make_sample(upscaler, path, PRESET, SIDE)
        silent = in_state(sample.batch, "tags", "none", sample.batch, None, method.condition_features)
        assert silent is not None
        latents, predict = denoiser(method, sample, silent, sampling)
        shown = method._lr_latents(method._lr_up(silent))
        for row, found in zip(seen, [*(predict(t, 0) for t in KNOWN_AT), shown, latents], strict=True):
            row.append(strength(found))
    *guesses, truth = (np.concatenate(row) for row in seen)
    return [float(np.corrcoef(guess, truth)[0, 1] ** 2) for guess in guesses]


def strength(latents_1Chw: Tensor) -> np.ndarray:
    """Logarithm of the local deviation over `WINDOW` cells a side, mean over the finest channels of Y."""
    finest = latents_1Chw[:, FINEST]
    mean, power = (functional.avg_pool2d(each, WINDOW, WINDOW // 2) for each in (finest, finest**2))
    return (power - mean**2).clamp_min(1e-4).log().mul(0.5).mean(1).flatten().numpy()


if __name__ == "__main__":
    main()
