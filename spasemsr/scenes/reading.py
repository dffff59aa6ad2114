"""What a picture of a scene shows in each region: a fixed classifier on band energy, nothing learned.

A texture is one term of the block DCT, so its energy in a region is the mean square of that term over the region's
blocks; which texture is there is which energy is largest, and how strong it is the root of that energy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spasemsr.pixels import ImageU8
from spasemsr.scenes.scene import BLOCK, LEVELS, TEXTURES, Region, Scene

_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Reading:
    """One region of a picture: the texture whose energy is largest, and the caption its strength is closer to."""

    name: str
    caption: str


def read_scene(picture: ImageU8, regions: Sequence[Region]) -> list[Reading]:
    """(side, side, 3) -> what each region shows. A region without any texture reads as some, by chance, and faint."""
    luma = picture.astype(np.float64) @ _LUMA
    return [_read(region.crop(luma)) for region in regions]


def _read(luma_HW: npt.NDArray[np.float64]) -> Reading:
    rows, columns = luma_HW.shape[0] // BLOCK, luma_HW.shape[1] // BLOCK
    blocks = luma_HW.reshape(rows, BLOCK, columns, BLOCK)
    energies = {
        name: float(np.mean(np.einsum("iyjx,yx->ij", blocks, _term(*indices)) ** 2))
        for name, indices in TEXTURES.items()
    }
    name = max(energies, key=lambda texture: energies[texture])
    level = np.sqrt(energies[name]) / BLOCK  # an orthonormal term of a block of root mean square 1 is 8
    return Reading(name, min(LEVELS, key=lambda caption: abs(LEVELS[caption] - level)))


def _term(down: int, across: int) -> npt.NDArray[np.float64]:
    """(8, 8): one term of the orthonormal block DCT."""
    place = np.arange(BLOCK) + 0.5
    term = np.outer(np.cos(np.pi / BLOCK * place * down), np.cos(np.pi / BLOCK * place * across))
    return term / np.linalg.norm(term)


@dataclass(frozen=True)
class Agreement:
    """How far a picture shows the scene that was asked for, as shares of its regions.

    `place`: the texture asked for there. `kind`: any texture the scene has. `level`: as strong as its caption says.
    """

    place: float
    kind: float
    level: float


def agreement(picture: ImageU8, asked: Scene, regions: Sequence[int] | None = None) -> Agreement:
    """Compare a picture with the scene asked for, in all regions or in those of these numbers (from 0)."""
    chosen = [asked.regions[index] for index in (range(len(asked.regions)) if regions is None else regions)]
    read = read_scene(picture, chosen)
    return Agreement(
        place=float(np.mean([seen.name == region.name for seen, region in zip(read, chosen, strict=True)])),
        kind=float(np.mean([seen.name in asked.names for seen in read])),
        level=float(np.mean([seen.caption == asked.caption for seen in read])),
    )
