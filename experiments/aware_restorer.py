"""The weights of `restore: {kind: aware}`: `python experiments/aware_restorer.py PHOTOGRAPHS OUT [--steps N]`.

A plain loop on one core. Crops of the photographs, whole and reduced, are degraded by the mixture of presets; a tenth
are only reduced in size, and some of these softened before, hr too, because not every soft picture lost its detail on
the way. A pool of crops is kept and renewed one by one, and a step takes patches out of crops of the pool. The whole
crop, which is nearly as large as a test picture, is what the network judges the degradation by. Every tenth photograph
by name (the benchmark's) and every tenth from the sixth on (for tuning) are left out.

Killed and started again it goes on: crop i and step s are functions of their numbers. OUT gets `weights.safetensors`,
`losses.csv` and the state. The network starts from the weights of `restore: {kind: compact}`, so at step 0 it is that.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.backends.restorer.aware import SCALE, measures_of
from spasemsr.backends.restorer.aware_network import AwareNetwork
from spasemsr.backends.restorer.spec import COMPACT
from spasemsr.data.degradation import degrade
from spasemsr.data.spec import DegradationSpec
from spasemsr.images.flat import read_image
from spasemsr.pixels import ImageU8, bicubic_upsample, to_tensor
from spasemsr.randomness import derive_seed, generator
from spasemsr.weights.tensors import read_state_dict, save_tensors

SEED, EVERY, TUNING = 77, 10, 5
CROP, PATCH, BATCH = 96, 56, 6  # lr pixels, lr pixels, patches
POOL, RENEW = 1500, 3  # crops, steps from one new crop to the next
SIZES = (1.0, 0.75, 0.5)  # at which a photograph is used
CLEAN_SHARE, SOFT_SHARE = 0.1, 0.6  # of the crops, reduced in size and nothing else; of these, softened with their hr
SOFT = (0.6, 3.0)  # sigma of the Gaussian, pixels of hr
MIXTURE = DegradationSpec(preset="mixture")
LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
COLOUR_SHARE = 0.2  # of the squared error of RGB beside that of Y
RATE, NEW_RATE = 5e-4, 2.0  # of Adam; times that for what the old network lacks
WARMUP, EMA, CLIP = 200, 0.999, 1.0
SAVE_EVERY = 200


@dataclass(frozen=True)
class Crop:
    """A degraded crop and its original; `reference` is bicubic's squared error on it."""

    hr: ImageU8
    lr: ImageU8
    measures: list[float]
    reference: float


def pictures(folder: Path) -> list[ImageU8]:
    """The training photographs at each of `SIZES` that leaves a whole crop."""
    found = []
    for i, path in enumerate(sorted(folder.iterdir())):
        if i % EVERY in (0, TUNING):
            continue
        pixels = read_image(path, 100_000_000, 40_000_000).pixels
        for size in SIZES:
            shape = round(pixels.shape[1] * size), round(pixels.shape[0] * size)
            if min(shape) >= CROP * SCALE:
                found.append(np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.LANCZOS)))
    return found


def shares_of(sources: list[ImageU8]) -> np.ndarray:
    """How often each picture is drawn: by the square root of its area, of all together 1."""
    shares = np.array([len(source) * source.shape[1] for source in sources]) ** 0.5
    return shares / shares.sum()


def make_crop(number: int, sources: list[ImageU8], shares: np.ndarray) -> Crop:
    """Crop `number`: where it lies and how it is degraded are drawn from the number alone."""
    rng, side = generator(SEED, "crop", number), CROP * SCALE
    picture = int(rng.choice(len(sources), p=shares))
    y, x = (int(rng.integers(0, length - side + 1)) for length in sources[picture].shape[:2])
    hr = sources[picture][y : y + side, x : x + side]  # a view: the pool takes the memory of its lr
    if rng.random() < CLEAN_SHARE:
        if rng.random() < SOFT_SHARE:
            hr = cv2.GaussianBlur(hr, (0, 0), float(rng.uniform(*SOFT)))
        filters = Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS
        lr = np.array(Image.fromarray(hr).resize((CROP, CROP), filters[int(rng.integers(3))]))
    else:
        lr = degrade(np.ascontiguousarray(hr), MIXTURE, SCALE, derive_seed(SEED, "degradation", number)).lr
    with torch.no_grad():
        reference = squared(bicubic_upsample(to_tensor(lr), SCALE) - to_tensor(hr))
    return Crop(hr, lr, measures_of(lr), float(reference[0]))


def batch_of(
    step: int, pool: list[Crop], patch: int = PATCH, count: int = BATCH
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Patches of lr and hr, their whole crops, flipped and turned alike; measures and bicubic's errors of the crops."""
    rng = generator(SEED, "step", step)
    small, large, whole, chosen = [], [], [], []
    for i in rng.integers(0, len(pool), count):
        crop, turn = pool[i], int(rng.integers(8))
        y, x = (int(place) for place in rng.integers(0, CROP - patch + 1, 2))
        top, left, side = SCALE * y, SCALE * x, SCALE * patch
        small.append(turned(crop.lr[y : y + patch, x : x + patch], turn))
        large.append(turned(crop.hr[top : top + side, left : left + side], turn))
        whole.append(turned(crop.lr, turn))
        chosen.append(crop)
    measures, references = [crop.measures for crop in chosen], [crop.reference for crop in chosen]
    images = (to_tensor(np.stack(each)) for each in (small, large, whole))
    return *images, torch.tensor(measures), torch.tensor(references)


def turned(pixels: ImageU8, turn: int) -> ImageU8:
    """One of the eight symmetries of a square."""
    pixels = pixels[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
    return np.ascontiguousarray(pixels.transpose(1, 0, 2) if turn & 4 else pixels)


def squared(error_B3HW: Tensor) -> Tensor:
    """Mean squared error of Y and a share of that of RGB, (B,)."""
    luma = torch.einsum("bchw,c->bhw", error_B3HW, error_B3HW.new_tensor(LUMA))
    return (luma**2).mean((1, 2)) + COLOUR_SHARE * (error_B3HW**2).mean((1, 2, 3))


def loss_of(errors_B: Tensor, references_B: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, error relative to bicubic's on the crop).

    Half of the loss is that relative error, which counts patches as the PSNR of a whole picture does; half is the
    logarithm of the patch's own error, without which smooth patches keep their noise.
    """
    relative = (errors_B / (references_B + 5e-5)).mean()
    return (relative + torch.log(errors_B + 2e-5).mean()) / 2, relative


def start_from_compact(network: AwareNetwork) -> None:
    """The trunk of the old network; `skip` makes nearest, its base, out of bicubic."""
    state = read_state_dict(COMPACT)
    network.body.load_state_dict({name.removeprefix("body."): value.float() for name, value in state.items()})
    impulses = torch.zeros(25, 1, 9, 9)
    for i in range(25):
        impulses[i, 0, 2 + i // 5, 2 + i % 5] = 1
    bases = [
        functional.interpolate(impulses, scale_factor=SCALE, mode="nearest"),
        functional.interpolate(impulses, scale_factor=SCALE, mode="bicubic", align_corners=False),
    ]
    centre = (bases[0] - bases[1])[:, 0, 4 * SCALE : 5 * SCALE, 4 * SCALE : 5 * SCALE].reshape(5, 5, SCALE**2)
    with torch.no_grad():
        network.skip.weight.zero_()
        network.skip.bias.zero_()
        for colour in range(3):
            network.skip.weight[colour * SCALE**2 : (colour + 1) * SCALE**2, colour] = centre.permute(2, 0, 1)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--cooldown", type=int, default=5000, help="last steps, over which the rate falls to zero")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    network = AwareNetwork()
    start_from_compact(network)
    network.to(memory_format=torch.channels_last)
    old = [value for name, value in network.named_parameters() if name.startswith("body")]
    new = [value for name, value in network.named_parameters() if not name.startswith("body")]
    optimizer = torch.optim.Adam([{"params": old, "scale": 1.0}, {"params": new, "scale": NEW_RATE}], betas=(0.9, 0.99))
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    begun, path = 0, chosen.out / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        begun, average = state["step"], state["average"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    with (chosen.out / "losses.csv").open("a", newline="") as file:
        for step, loss in steps(network, optimizer, average, begun, chosen):
            csv.writer(file).writerow([step, f"{loss:.4f}"])
            if step % SAVE_EVERY == 0 or step == chosen.steps:
                file.flush()
                kept = {"step": step, "average": average, "network": network.state_dict()}
                torch.save(kept | {"optimizer": optimizer.state_dict()}, path.with_suffix(".new"))
                path.with_suffix(".new").replace(path)
    half = {name: value.half().contiguous() for name, value in average.items()}
    save_tensors(chosen.out / "weights.safetensors", half)


def steps(
    network: AwareNetwork,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    step: int,
    chosen: argparse.Namespace,
) -> Iterator[tuple[int, float]]:
    """Train from `step` on; yields the number of each finished step and its error relative to bicubic's."""
    sources = pictures(chosen.photographs)
    shares = shares_of(sources)
    renewed = -(-step // RENEW)  # crops made anew so far; crop n lies at n modulo POOL
    pool = [make_crop(renewed + (i - renewed) % POOL, sources, shares) for i in range(POOL)]
    while step < chosen.steps:
        if step % RENEW == 0:
            pool[step // RENEW % POOL] = make_crop(step // RENEW + POOL, sources, shares)
        lr, hr, whole, measures, references = batch_of(step, pool)
        rate = RATE * min(1, (step + 1) / WARMUP, (chosen.steps - step) / chosen.cooldown)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        restored = network(lr, network.modulation(whole, measures))
        loss, relative = loss_of(squared(restored - hr), references)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        decay = min(EMA, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        step += 1
        yield step, float(relative.detach())


if __name__ == "__main__":
    main()
