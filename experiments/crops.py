"""Degraded crops of photographs and the patches that each training step of `restore: {kind: aware}` takes out of them.

Crops of the photographs, whole and reduced, are degraded by the mixture of presets; a tenth are only reduced in size,
and some of these softened before, hr too, because not every soft picture lost its detail on the way. A pool of crops is
kept on the device and renewed one by one by processes of their own. The whole crop, which is nearly as large as a test
picture, is what the network judges the degradation by. Every tenth photograph by name (the benchmark's) and every tenth
from the sixth on (for tuning) are left out. Crop i and step s are functions of their numbers, so a training that was
killed sees what it would have seen.
"""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count as numbers_from
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spasemsr.backends.restorer.aware import measures_of
from spasemsr.backends.restorer.tiles import SCALE
from spasemsr.data.degradation import degrade
from spasemsr.data.spec import DegradationSpec
from spasemsr.images.flat import read_image
from spasemsr.pixels import ImageU8, bicubic_upsample, to_tensor
from spasemsr.randomness import derive_seed, generator

SEED, EVERY, TUNING = 77, 10, 5
CROP = 96  # lr pixels
POOL, USED = 1500, 24  # crops, patches that are taken between one new crop and the next
AHEAD = 64  # crops that may wait to be taken into the pool
SIZES = (1.0, 0.75, 0.5)  # at which a photograph is used
CLEAN_SHARE, SOFT_SHARE = 0.1, 0.6  # of the crops, reduced in size and nothing else; of these, softened with their hr
SOFT = (0.6, 3.0)  # sigma of the Gaussian, pixels of hr
MIXTURE = DegradationSpec(preset="mixture")
Change = Callable[[ImageU8, np.random.Generator], ImageU8]
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
    chosen = [path for i, path in enumerate(sorted(folder.iterdir())) if i % EVERY not in (0, TUNING)]
    with ThreadPoolExecutor() as pool:
        return [picture for each in pool.map(_at_sizes, chosen) for picture in each]


def _at_sizes(path: Path) -> list[ImageU8]:
    pixels = read_image(path, 100_000_000, 40_000_000).pixels
    shapes = [(round(pixels.shape[1] * size), round(pixels.shape[0] * size)) for size in SIZES]
    shapes = [shape for shape in shapes if min(shape) >= CROP * SCALE]
    return [np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.LANCZOS)) for shape in shapes]


def shares_of(sources: list[ImageU8]) -> np.ndarray:
    """How often each picture is drawn: by the square root of its area, of all together 1."""
    shares = np.array([len(source) * source.shape[1] for source in sources]) ** 0.5
    return shares / shares.sum()


def make_crop(number: int, sources: list[ImageU8], shares: np.ndarray, change: Change | None = None) -> Crop:
    """Crop `number`: where it lies and how it is degraded are drawn from the number alone.

    `change` makes another picture of the crop before it is degraded.
    """
    rng, side = generator(SEED, "crop", number), CROP * SCALE
    picture = int(rng.choice(len(sources), p=shares))
    y, x = (int(rng.integers(0, length - side + 1)) for length in sources[picture].shape[:2])
    hr = sources[picture][y : y + side, x : x + side]
    if change is not None:
        hr = change(np.ascontiguousarray(hr), generator(SEED, "change", number))
    if rng.random() < CLEAN_SHARE:
        if rng.random() < SOFT_SHARE:
            hr = cv2.GaussianBlur(hr, (0, 0), float(rng.uniform(*SOFT)))
        filters = Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS
        lr = np.array(Image.fromarray(hr).resize((CROP, CROP), filters[int(rng.integers(3))]))
    else:
        lr = degrade(np.ascontiguousarray(hr), MIXTURE, SCALE, derive_seed(SEED, "degradation", number)).lr
    with torch.no_grad():
        reference = squared(bicubic_upsample(to_tensor(lr), SCALE) - to_tensor(hr))
    return Crop(np.ascontiguousarray(hr), lr, measures_of(lr), float(reference[0]))


class Pool:
    """The crops of a training on its device; processes make new ones meanwhile. A context: they end with it."""

    def __init__(self, folder: Path, step: int, patch: int, count: int, device: str, workers: int) -> None:
        """Of `count` patches of `patch` lr pixels a side, from `step` on. Make it before anything runs on a GPU, since
        its workers are forked."""
        self._patch, self._count, self._ended, self._room = patch, count, False, threading.Semaphore(AHEAD)
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        sources = pictures(folder)
        self._next = step * count // USED
        self._workers = multiprocessing.get_context("fork").Pool(workers, _begin, (sources, shares_of(sources)))
        self._made: Iterator[Crop] = self._workers.imap(_crop, self._numbers(self._next))
        side = CROP * SCALE
        self._hr = torch.empty(POOL, side, side, 3, dtype=torch.uint8, device=device)
        self._lr = torch.empty(POOL, CROP, CROP, 3, dtype=torch.uint8, device=device)
        self._measures = torch.empty(POOL, len(measures_of(np.zeros((8, 8, 3), np.uint8))), device=device)
        self._references = torch.empty(POOL, device=device)

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._workers.terminate()

    def _numbers(self, first: int) -> Iterator[int]:
        """Of the crops to make, each when there is room for one more."""
        for number in numbers_from(first):
            while not self._room.acquire(timeout=0.2):
                if self._ended:
                    return
            yield number

    def batch(self, step: int) -> Batch:
        """The patches of a step. Steps must be asked for in order."""
        patch, count = self._patch, self._count
        while self._next < step * count // USED + POOL:
            crop, place = next(self._made), self._next % POOL
            self._room.release()
            self._hr[place], self._lr[place] = torch.from_numpy(crop.hr), torch.from_numpy(crop.lr)
            self._measures[place] = torch.tensor(crop.measures)
            self._references[place] = crop.reference
            self._next += 1
        rng, device = generator(SEED, "step", step), self._lr.device
        drawn = np.stack([rng.integers(0, most, count) for most in (POOL, CROP - patch + 1, CROP - patch + 1, 8)])
        crop_B, y_B, x_B, turn_B = torch.from_numpy(drawn).to(device)

        def cut(images: Tensor, y_B: Tensor, x_B: Tensor, side: int) -> Tensor:
            along = torch.arange(side, device=device)
            rows = y_B[:, None] + torch.where((turn_B & 1 > 0)[:, None], side - 1 - along, along)
            columns = x_B[:, None] + torch.where((turn_B & 2 > 0)[:, None], side - 1 - along, along)
            found = images[crop_B[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
            return torch.where((turn_B & 4 > 0)[:, None, None, None], found.transpose(2, 3), found) / 255

        zero = torch.zeros_like(y_B)
        return Batch(
            cut(self._lr, y_B, x_B, patch),
            cut(self._hr, y_B * SCALE, x_B * SCALE, patch * SCALE),
            cut(self._lr, zero, zero, CROP),
            self._measures[crop_B],
            self._references[crop_B],
        )


_drawn_from: tuple[list[ImageU8], np.ndarray]


def _begin(sources: list[ImageU8], shares: np.ndarray) -> None:
    global _drawn_from
    _drawn_from = sources, shares


def _crop(number: int) -> Crop:
    return make_crop(number, *_drawn_from)


def squared(error_B3HW: Tensor) -> Tensor:
    """Mean squared error of Y and a share of that of RGB, (B,)."""
    luma = torch.einsum("bchw,c->bhw", error_B3HW, error_B3HW.new_tensor(LUMA))
    return (luma**2).mean((1, 2)) + COLOUR_SHARE * (error_B3HW**2).mean((1, 2, 3))
