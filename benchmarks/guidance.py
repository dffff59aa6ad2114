"""Does guidance act? `python benchmarks/guidance.py MODEL [--photographs FOLDER] [--images N] [--seeds 3]`.

MODEL is a folder of weights. Without photographs, the evaluation split of this project's `data/shards` is asked (the
scenes of `profile: probe`, say); of every tenth photograph by name, none of which the nano weights were trained on, the
central square of 256 px is degraded, restored, tagged and captioned as `spasemsr upscale` does.

Every figure is paired by picture and noise and has a 95 % bootstrap interval over photographs:

- how much the denoising error at t = 600 and 999 grows when tags, boxes or caption are taken away, are those of
  another picture (shuffled), or are exchanged among the boxes of their own (swapped);
- the rows of the audit: PSNR and texture error with own conditions against none, another picture's;
- one object renamed: change inside its box against outside;
- attention to an object's words inside its box over outside, by layer.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
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
from spasemsr.evaluation.conditions import CONDITIONS, in_state, retagged
from spasemsr.evaluation.intervals import interval
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.methods.columns import columns_of
from spasemsr.methods.latent import LatentDiffusion, View
from spasemsr.methods.noise import Noise
from spasemsr.pixels import to_tensor
from spasemsr.upscaling.upscaler import Upscaler

TIMESTEPS = (600, 999)
SIDE, PRESET = 256, "seesr"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    pin_threads()
    upscaler = Upscaler.from_pretrained(chosen.model, device="cpu")
    method, sampling = upscaler.method, upscaler.sampling
    assert isinstance(method, LatentDiffusion)
    if chosen.photographs is None:
        samples = of_shards(chosen.model, chosen.images)
    else:
        paths = photographs(chosen.photographs)[::EVERY][: chosen.images]
        samples = [make_sample(upscaler, path, PRESET, SIDE) for path in paths]
    others, seeds = [*samples[1:], samples[0]], range(chosen.seeds)
    print(f"{chosen.model}: {len(samples)} pictures, {chosen.seeds} seeds\n\nDenoising error, change in percent")
    for line in errors(method, samples, others, seeds, sampling):
        print(line)

    found = ask(upscaler, samples, build_metrics(["psnr", "texture"]), seeds, with_truth=False)
    print("\nResults, differences to those under own conditions")
    for row in found["states"]:
        said = (
            f"{name} {d['mean']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]" for name, d in row["differences"].items()
        )
        print(f"{row['condition']:<8} {row['state']:<6} {'  '.join(said)}")
    print(*list(lines(found))[len(found["states"]) :], sep="\n")
    ratios = found["attention"]
    print(
        "\nAttention inside over outside, by layer:", ", ".join(f"{ratio:.2f}" for ratio in ratios.values()) or "none"
    )
    if ratios:
        print(f"mean {np.mean(list(ratios.values())):.2f}")


def of_shards(model: Path, count: int) -> list[Sample]:
    """The first of the evaluation split of this folder's project."""
    bench = restoration(model, layout.SHARDS, columns_of(load_params().sections()), Cache(), "fp32")
    reader = ColumnReader(layout.SHARDS, HR)
    return [Sample(key, bench.dataset.batch([key]), reader.read(key, "hr.png")) for key in bench.dataset.keys[:count]]


def errors(
    method: LatentDiffusion, samples: Sequence[Sample], others: Sequence[Sample], seeds: Sequence[int],
    sampling: SampleSpec,
) -> Iterator[str]:  # fmt: skip
    """A line for each timestep, condition and state that says something else than the picture's own."""
    for timestep in TIMESTEPS:
        own = {(s.key, seed): error(method, s, s.batch, timestep, seed, sampling) for s in samples for seed in seeds}
        for condition in CONDITIONS:
            for state in ("none", "shuffled", "swapped") if condition in method.conditions else ():
                changes = {}
                for sample, other in zip(samples, others, strict=True):
                    batch = sample.batch
                    if state != "swapped":
                        edited = in_state(
                            batch,
                            condition,
                            "none" if state == "none" else "other",
                            other.batch,
                            None,
                            method.condition_features,
                        )
                    elif condition == "tags" and len(set(tags := batch.objects[0].tags)) > 1:
                        edited = retagged(batch, [*tags[1:], tags[0]])
                    else:
                        continue
                    if edited is not None:
                        grown = [
                            error(method, sample, edited, timestep, n, sampling) / own[sample.key, n] for n in seeds
                        ]
                        changes[sample.key] = 100 * (float(np.mean(grown)) - 1)
                if changes:
                    low, high = interval(changes, 0, "error", condition, state) or (np.nan, np.nan)
                    mean = np.mean(list(changes.values()))
                    yield (
                        f"t = {timestep}  {condition:<8} {state:<9} {mean:+.2f} % [{low:+.2f}, {high:+.2f}], "
                        f"{len(changes)} pictures"
                    )


@torch.no_grad()
def error(
    method: LatentDiffusion, sample: Sample, batch: Batch, timestep: int, seed: int, sampling: SampleSpec
) -> float:
    """Mean squared error of z_0, predicted from hr's latents noised to t, under the conditions of `batch`."""
    noise, keys = Noise(seed, 0), [sample.key]
    latents = method._lr_latents(to_tensor(sample.hr).contiguous())
    lr_up = method._lr_up(batch)
    lr_latents, timesteps = method._lr_latents(lr_up), torch.tensor([timestep])
    noisy = method.schedule.add_noise(latents, noise.gaussian("noise", keys, latents.shape[1:]), timesteps)
    encoded = method.encode(View(lr_up, lr_latents, batch.features), method.condition(batch, sampling))
    predicted = method.predict(noisy, timesteps, encoded, method.begin(batch, noise, timesteps)).sample
    if method.from_lr:
        predicted = predicted + lr_latents
    return float(torch.mean((method.schedule.clean(predicted, noisy, timesteps) - latents) ** 2))


if __name__ == "__main__":
    main()
