"""Does guidance act? `python benchmarks/guidance.py MODEL [--photographs FOLDER] [--images N] [--seeds 3]`.

MODEL is a folder of weights. Without photographs, the evaluation split of this project's `data/shards` is asked (the
scenes of `profile: probe`, say). Of photographs, every tenth by name from the first and from the sixth on, none of
which the nano weights were trained on, the central square of 256 px is degraded, restored, tagged and captioned as
`spasemsr upscale` does. Each is given the tags and boxes of its own hr, another one's are those of the other's hr;
`--words found`, the default for scenes, takes those that upscaling finds.

Every figure is paired by picture and noise and has a 95 % bootstrap interval over photographs:

- how much the denoising error at t = 600 and 999 grows when tags, boxes or caption are taken away, are those of
  another picture (shuffled), or are exchanged among the boxes of their own (swapped);
- the rows of the audit: PSNR and texture error with own conditions against none, another picture's;
- one object renamed: change inside its box against outside;
- attention to an object's words inside its box over outside, by layer.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from nano import EVERY

from pipeline import layout
from pipeline.engine.restoring import restoration
from pipeline.tools.audit import Sample, ask, make_sample
from spasemsr.cache import Cache
from spasemsr.config import load_params
from spasemsr.data.columns import HR
from spasemsr.data.dataset import Batch
from spasemsr.data.pairs import photographs
from spasemsr.data.shards import ColumnReader
from spasemsr.determinism import pin_threads
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.evaluation.audit import lines
from spasemsr.evaluation.conditions import CONDITIONS, Condition, State, in_state, retagged
from spasemsr.evaluation.intervals import interval
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.methods.columns import columns_of
from spasemsr.methods.latent import LatentDiffusion
from spasemsr.methods.noise import Noise
from spasemsr.methods.truth import Truth
from spasemsr.methods.view import View
from spasemsr.pixels import to_tensor
from spasemsr.upscaling.upscaler import Upscaler

TIMESTEPS: tuple[int, ...] = (600, 999)
TUNING = 5  # where the second tenth of the photographs begins
REPLACED: dict[str, State] = {"none": "none", "shuffled": "other"}
SIDE, PRESET = 256, "seesr"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--images", type=int, help="the first so many; default: all photographs, 16 scenes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--words", choices=["found", "hr"], help="own tags and boxes: found, or hr's")
    chosen = parser.parse_args()
    pin_threads()
    upscaler = Upscaler.from_pretrained(chosen.model, device="cpu")
    method, sampling = upscaler.method, upscaler.sampling
    assert isinstance(method, LatentDiffusion)
    if chosen.photographs is None:
        samples = of_shards(chosen.model, chosen.images or 16)
    else:
        paths = unseen(chosen.photographs)[: chosen.images]
        samples = [make_sample(upscaler, path, PRESET, SIDE) for path in paths]
    if (chosen.words or ("hr" if chosen.photographs else "found")) == "hr":
        truth = Truth(method, upscaler.config.inference.ground)
        samples = [replace(sample, batch=truth.of(sample.batch, sample.hr)) for sample in samples]
    seeds = range(chosen.seeds)
    print(f"{chosen.model}: {len(samples)} pictures, {chosen.seeds} seeds\n\nDenoising error, change in percent")
    for line in errors(method, samples, seeds, sampling):
        print(line)

    found = ask(upscaler, samples, build_metrics(["psnr", "texture"]), seeds, with_truth=False)
    print("\nResults, differences to those under own conditions")
    for row in found["states"]:
        said = (
            f"{name} {difference['mean']:+.4f}{bounds(difference)}" for name, difference in row["differences"].items()
        )
        print(f"{row['condition']:<8} {row['state']:<6} {'  '.join(said)}")
    print(*list(lines(found))[len(found["states"]) :], sep="\n")
    ratios = found["attention"]
    print(
        "\nAttention inside over outside, by layer:", ", ".join(f"{ratio:.2f}" for ratio in ratios.values()) or "none"
    )
    if ratios:
        print(f"mean {np.mean(list(ratios.values())):.2f}")


def unseen(folder: Path) -> list[Path]:
    """Photographs that the network was not trained on: those of its card, then those that settings were chosen by."""
    return [path for first in (0, TUNING) for path in photographs(folder)[first::EVERY]]


def bounds(difference: Mapping[str, float | None], digits: int = 4) -> str:
    """The interval, which a single photograph does not have."""
    low, high = difference["low"], difference["high"]
    return "" if low is None or high is None else f" [{low:+.{digits}f}, {high:+.{digits}f}]"


def of_shards(model: Path, count: int) -> list[Sample]:
    """The first of the evaluation split of this folder's project."""
    bench = restoration(model, layout.SHARDS, columns_of(load_params().sections()), Cache(), "fp32")
    reader = ColumnReader(layout.SHARDS, HR)
    return [Sample(key, bench.dataset.batch([key]), reader.read(key, "hr.png")) for key in bench.dataset.keys[:count]]


def errors(
    method: LatentDiffusion, samples: Sequence[Sample], seeds: Sequence[int], sampling: SampleSpec
) -> Iterator[str]:
    """A line for each timestep, condition and state that says something else than the picture's own."""
    growth: dict[tuple[int, Condition, str], dict[str, float]] = {}
    for sample, other in zip(samples, [*samples[1:], samples[0]], strict=True):
        own = denoising_errors(method, sample, sample.batch, seeds, sampling)
        for condition, state, batch in edits(method, sample.batch, other.batch):
            ratios = denoising_errors(method, sample, batch, seeds, sampling) / own
            for timestep, ratio in zip(TIMESTEPS, ratios.mean(axis=1), strict=True):
                growth.setdefault((timestep, condition, state), {})[sample.key] = 100 * float(ratio - 1)
    for (timestep, condition, state), changes in sorted(growth.items(), key=lambda item: item[0][0]):
        low, high = interval(changes, 0, "error", condition, state) or (None, None)
        change = f"{np.mean(list(changes.values())):+.2f} %{bounds({'low': low, 'high': high}, 2)}"
        yield f"t = {timestep}  {condition:<8} {state:<9} {change}, {len(changes)} pictures"


def edits(method: LatentDiffusion, own: Batch, other: Batch) -> Iterator[tuple[Condition, str, Batch]]:
    """Every condition of the method taken away, as another picture has it, and tags exchanged among their boxes."""
    for condition in CONDITIONS:
        if condition not in method.conditions:
            continue
        for name, state in REPLACED.items():
            edited = in_state(own, condition, state, other, None, method.condition_features)
            if edited is not None:
                yield condition, name, edited
        tags = own.objects[0].tags
        if condition == "tags" and len(set(tags)) > 1:
            yield condition, "swapped", retagged(own, [*tags[1:], tags[0]])


def denoising_errors(
    method: LatentDiffusion, sample: Sample, batch: Batch, seeds: Sequence[int], sampling: SampleSpec
) -> npt.NDArray[np.float64]:
    """(timesteps, seeds) mean squared errors of z_0, predicted from hr's latents noised to t, under `batch`."""
    latents, predict = denoiser(method, sample, batch, sampling)
    return np.array([[float(torch.mean((predict(t, seed) - latents) ** 2)) for seed in seeds] for t in TIMESTEPS])


@torch.no_grad()
def denoiser(
    method: LatentDiffusion, sample: Sample, batch: Batch, sampling: SampleSpec
) -> tuple[torch.Tensor, Callable[[int, int], torch.Tensor]]:
    """hr's latents, and (timestep, seed) -> what the network takes them for when they are noised that far."""
    latents = method._lr_latents(to_tensor(sample.hr).contiguous())
    lr_up = method._lr_up(batch)
    lr_latents = method._lr_latents(lr_up)
    encoded = method.encode(View(lr_up, lr_latents, batch.features), method.condition(batch, sampling))

    @torch.no_grad()
    def predict(timestep: int, seed: int) -> torch.Tensor:
        noise, timesteps = Noise(seed, 0), torch.tensor([timestep])
        drawn = noise.gaussian("noise", [sample.key], latents.shape[1:])
        noisy = method.schedule.add_noise(latents, drawn, timesteps)
        predicted = method.predict(noisy, timesteps, encoded, method.begin(batch, noise, timesteps)).sample
        if method.from_lr:
            predicted = predicted + lr_latents
        return method.schedule.clean(predicted, noisy, timesteps)

    return latents, predict


if __name__ == "__main__":
    main()
