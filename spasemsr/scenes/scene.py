"""One scene: flat colours that lr shows, and in each region a texture that lr cannot show.

A texture is one term of the 8x8 block DCT, (u, v) its half periods down and across a block, one of them 2: the pattern
is odd about the middle of every 4x4 cell in that direction, so its mean over a cell is zero, in whole grey levels too.
What a x4 area mean leaves of two scenes with the same colours is therefore the same to the bit, whatever their textures
and however strong these are. All edges lie on the 8 px grid; textures start with their block, so PSNR has one answer.

A scene is a function of its number and its spec. Its truth: tags with boxes and masks say which texture is where, the
caption says how strong the textures of the whole scene are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spasemsr import randomness
from spasemsr.pixels import ImageU8
from spasemsr.scenes.spec import SLOT, ScenesSpec

BLOCK, CELL = 8, 4  # pixels: a texture's period, and what lr averages over
TEXTURES: dict[str, tuple[int, int]] = {
    "stripes": (0, 2),
    "bars": (2, 0),
    "checks": (2, 2),
    "bricks": (2, 1),
    "tiles": (1, 2),
    "weave": (2, 3),
}
LEVELS = {"faint detail": 18.0, "strong detail": 36.0}  # root mean square of the textures in grey levels, by caption
_COLOURS = (70, 186)  # range of the flat colours, so that no texture is cut off at black or white
_SEED = 0  # part of the world, not of a run


@dataclass(frozen=True)
class Region:
    """A rectangle with a texture; y0 x0 y1 x1 in pixels, multiples of 8."""

    name: str
    y0: int
    x0: int
    y1: int
    x1: int
    colour: tuple[int, int, int]

    @property
    def spans(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last (excluded) row, first and last column."""
        return (self.y0, self.y1), (self.x0, self.x1)

    def crop(self, pixels_HW: npt.NDArray) -> npt.NDArray:
        """What of a picture of the scene's size lies in it; a view."""
        return pixels_HW[self.y0 : self.y1, self.x0 : self.x1]


@dataclass(frozen=True)
class Scene:
    """The truth of one picture."""

    number: int
    side: int
    background: tuple[int, int, int]
    regions: tuple[Region, ...]
    caption: str

    @property
    def names(self) -> list[str]:
        """The texture of every region, no two the same."""
        return [region.name for region in self.regions]

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """(N, 4) x0 y0 x1 y1 in [0, 1]."""
        return np.array([[r.x0, r.y0, r.x1, r.y1] for r in self.regions], np.float64) / self.side

    def picture(self) -> ImageU8:
        """hr, (side, side, 3): the colours with the textures on them."""
        pixels = self.flat().astype(np.int16)
        for region in self.regions:
            patch = region.crop(pixels)
            repeats = patch.shape[0] // BLOCK, patch.shape[1] // BLOCK
            patch += np.tile(pattern(region.name, LEVELS[self.caption]), repeats)[..., None]
        return pixels.astype(np.uint8)

    def flat(self) -> ImageU8:
        """The colours alone, (side, side, 3): all that lr shows."""
        pixels = np.empty((self.side, self.side, 3), np.uint8)
        pixels[:] = self.background
        for region in self.regions:
            region.crop(pixels)[:] = region.colour
        return pixels

    def masks(self) -> npt.NDArray[np.uint8]:
        """(side, side): 0 nothing, i = region i, counted from 1."""
        return self._drawn(range(1, len(self.regions) + 1))

    def labels(self) -> npt.NDArray[np.uint8]:
        """The label map, (side, side): 0 nothing, i = texture i of TEXTURES, counted from 1."""
        classes = list(TEXTURES)
        return self._drawn([classes.index(name) + 1 for name in self.names])

    def _drawn(self, values: "range | list[int]") -> npt.NDArray[np.uint8]:
        drawn = np.zeros((self.side, self.side), np.uint8)
        for region, value in zip(self.regions, values, strict=True):
            region.crop(drawn)[:] = value
        return drawn


def make_scene(spec: ScenesSpec, number: int) -> Scene:
    """Scene `number` of the world, 0 to count - 1. Raises ValueError for a number that is none of them."""
    if not 0 <= number < spec.count:
        raise ValueError(f"there are scenes 0 to {spec.count - 1}, not {number}")
    draw = randomness.generator(_SEED, "scene", spec.side, spec.fewest, spec.most, number)
    across = spec.side // SLOT
    slots = draw.permutation(across**2)[: draw.integers(spec.fewest, spec.most + 1)]
    names = draw.permutation(list(TEXTURES))[: len(slots)]
    background = _colour(draw)
    regions = []
    for slot, name in zip(slots, names, strict=True):
        (y0, y1), (x0, x1) = (_span(draw, int(place)) for place in divmod(slot, across))
        regions.append(Region(str(name), y0, x0, y1, x1, _colour(draw)))
    return Scene(number, spec.side, background, tuple(regions), str(draw.choice(list(LEVELS))))


def pattern(name: str, level: float) -> npt.NDArray[np.int16]:
    """One block of a texture, (8, 8) grey levels around zero, root mean square `level` before rounding."""
    down, across = (np.cos(np.pi / BLOCK * (np.arange(BLOCK) + 0.5) * index) for index in TEXTURES[name])
    block = np.outer(down, across)
    return np.rint(level * block / np.sqrt(np.mean(block**2))).astype(np.int16)


def _colour(draw: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = draw.integers(*_COLOURS, size=3)
    return int(red), int(green), int(blue)


def _span(draw: np.random.Generator, slot: int) -> tuple[int, int]:
    """First and last pixel of 2 or 3 blocks of a slot of 4, along one axis."""
    length = int(draw.integers(2, 4))
    first = int(draw.integers(0, SLOT // BLOCK - length + 1))
    return slot * SLOT + first * BLOCK, slot * SLOT + (first + length) * BLOCK
