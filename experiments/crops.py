"""Degraded crops of photographs and the patches that each training step of `restore: {kind: aware}` takes out of them.

Crops of the photographs, whole and reduced, are degraded by the mixture of presets; a tenth are only reduced in size,
and some of these softened before, hr too, because not every soft picture lost its detail on the way. A pool of crops is
kept and renewed one by one. The whole crop, which is nearly as large as a test picture, is what the network judges the
degradation by. Every tenth photograph by name (the benchmark's) and every tenth from the sixth on (for tuning) are
left out. Crop i and step s are functions of their numbers, so a training that was killed sees what it would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spasemsr.backends.restorer.aware import SCALE, measures_of
from spasemsr.data.degradation import degrade
from spasemsr.data.spec import DegradationSpec
from spasemsr.images.flat import read_image
from spasemsr.pixels import ImageU8, bicubic_upsample, to_tensor
from spasemsr.randomness import derive_seed, generator

SEED, EVERY, TUNING = 77, 10, 5
CROP = 96  # lr pixels
POOL, RENEW = 1500, 3  # crops, steps from one new crop to the next
SIZES = (1.0, 0.75, 0.5)  # at which a photograph is used
CLEAN_SHARE, SOFT_SHARE = 0.1, 0.6  # of the crops, reduced in size and nothing else; of these, softened with their hr
SOFT = (0.6, 3.0)  # sigma of the Gaussian, pixels of hr
MIXTURE = DegradationSpec(preset="mixture")
LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
COLOUR_SHARE = 0.2  # of the squared error of RGB beside that of Y


@dataclass(frozen=True)
class Batch:
    """Patches of lr and hr, the whole crops (lr) they lie in, flipped and turned alike; of the crops, their measures
    and bicubic's squared error."""

    lr_B3hw: Tensor
    hr_B3HW: Tensor
    whole_B3hw: Tensor
    measures_BM: Tensor
    references_B: Tensor


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


def batches(folder: Path, step: int, last: int, patch: int, count: int) -> Iterator[Batch]:
    """Of steps `step` to `last`: `count` patches of `patch` lr pixels a side out of crops of a folder's pictures."""
    sources = pictures(folder)
    shares = shares_of(sources)
    renewed = -(-step // RENEW)  # crops made anew so far; crop n lies at n modulo POOL
    pool = [make_crop(renewed + (i - renewed) % POOL, sources, shares) for i in range(POOL)]
    for now in range(step, last):
        if now % RENEW == 0:
            pool[now // RENEW % POOL] = make_crop(now // RENEW + POOL, sources, shares)
        yield batch_of(now, pool, patch, count)


def batch_of(step: int, pool: list[Crop], patch: int, count: int) -> Batch:
    """The patches of one step."""
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
    return Batch(*images, torch.tensor(measures), torch.tensor(references))


def turned(pixels: ImageU8, turn: int) -> ImageU8:
    """One of the eight symmetries of a square."""
    pixels = pixels[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
    return np.ascontiguousarray(pixels.transpose(1, 0, 2) if turn & 4 else pixels)


def squared(error_B3HW: Tensor) -> Tensor:
    """Mean squared error of Y and a share of that of RGB, (B,)."""
    luma = torch.einsum("bchw,c->bhw", error_B3HW, error_B3HW.new_tensor(LUMA))
    return (luma**2).mean((1, 2)) + COLOUR_SHARE * (error_B3HW**2).mean((1, 2, 3))
