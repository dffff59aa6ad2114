"""A strength for each object: where the results of several dials lie in one picture.

Every strength is sampled from the same noise, as far as its boxes reach, and boxes of the named objects are then laid
over the result of the strength that holds everywhere else; a box that is left out shows the picture enlarged by
bicubic. A box gives way to what is around it over its own outer pixels, so outside all boxes every pixel is that of the
one strength alone, to the bit. Where boxes of different strengths overlap, the smaller one lies on top, and what is
left out over all. H W are pixels of the result.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spasemsr.errors import RejectedSample
from spasemsr.upscaling.settings import OFF, WHOLE, Corners, Settings, Strength, located

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Box

Place = tuple[int, int, int, int]  # left, top, right and bottom in pixels of the result
RAMP = 32  # pixels of the result over which a box gives way, within it


@dataclass(frozen=True)
class Region:
    """An object's box, x0 y0 x1 y1 in [0, 1], and its own strength or OFF."""

    tag: str
    dial: Strength
    box: Corners

    @property
    def area(self) -> float:
        """As a share of the picture."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)

    def over(self, other: "Region") -> bool:
        """Whether the boxes share more than an edge."""
        return all(
            max(self.box[axis], other.box[axis]) < min(self.box[axis + 2], other.box[axis + 2]) for axis in (0, 1)
        )

    def plain(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return {"tag": self.tag, "dial": self.dial, "box": [round(side, 4) for side in self.box]}


def regions_of(settings: Settings, boxes: "Sequence[Box]") -> tuple[Region, ...]:
    """The boxes that `settings.dials` name or give, in the order in which they are laid: see `in_order`.

    Raises RejectedSample `tag_not_found` for a name without a box. A tag given by hand that was found nowhere has the
    whole picture as its box (`Describer`), which is no place for a strength of its own.
    """
    placed = {name for name, box in map(located, settings.tags or ()) if box is not None}
    found = [box for box in boxes if box.tag in placed or tuple(box.xyxy) != WHOLE]
    regions = []
    for tag, dial in settings.dials:
        name, place = located(tag)
        places = [box.xyxy for box in found if box.tag == tag] if place is None else [place]
        if not places:
            seen = ", ".join(dict.fromkeys(box.tag for box in found)) or "nothing"
            raise RejectedSample(
                "tag_not_found",
                f'--dial names {tag!r}, found are: {seen}; give its place with --tags "{tag}@left,top,right,bottom"',
            )
        regions += [Region(name, dial, box) for box in places]
    return in_order(sorted(regions, key=lambda region: -region.area))


def in_order(regions: Iterable[Region]) -> tuple[Region, ...]:
    """As they are laid: in the order given, but what is left out last, over all others."""
    return tuple(sorted(regions, key=lambda region: region.dial == OFF))


def of_dial(regions: Sequence[Region], dial: Strength, size: tuple[int, int], scale: int) -> list[Place]:
    """The places of regions of one strength in the result of a picture of `size` (width, height)."""
    return [_place(region, size[0] * scale, size[1] * scale) for region in regions if region.dial == dial]


def _place(region: Region, width: int, height: int) -> Place:
    x0, y0, x1, y1 = (round(side * count) for side, count in zip(region.box, (width, height) * 2, strict=True))
    return x0, y0, x1, y1


def overlaps(regions: Sequence[Region]) -> list[str]:
    """Which regions lie over others of another strength, in words."""
    pairs = [
        f"{upper.tag} lies over {lower.tag}"
        for index, lower in enumerate(regions)
        for upper in regions[index + 1 :]
        if upper.dial != lower.dial and upper.over(lower)
    ]
    return list(dict.fromkeys(pairs))


def laid(
    canvas: npt.NDArray[np.uint16], regions: Sequence[Region], others: Mapping[Strength, npt.NDArray[np.uint16]]
) -> npt.NDArray[np.uint16]:
    """`canvas` (H, W, 3) with each region taken from the canvas of its own strength; a strength not there is its own.

    Inside a box, RAMP pixels from its edges on, the result is that of the box's strength to the bit.
    """
    result = canvas.copy() if regions else canvas
    height, width = canvas.shape[:2]
    for region in regions:
        x0, y0, x1, y1 = _place(region, width, height)
        place, own = result[y0:y1, x0:x1], others.get(region.dial, canvas)[y0:y1, x0:x1]
        weights = np.minimum.outer(_ramp(y0, y1, height), _ramp(x0, x1, width))[..., None]
        place[:] = np.rint(place + weights * (own.astype(np.float32) - place)).astype(np.uint16)
    return result


def _ramp(first: int, last: int, count: int) -> npt.NDArray[np.float32]:
    """Weights of the pixels first..last of an axis: 1, and less near an end that is not the picture's own."""
    place = np.arange(first, last, dtype=np.float32) + 0.5
    length = min(RAMP, max((last - first) / 2, 1.0))
    weights = np.ones(last - first, np.float32)
    if first > 0:
        weights = np.minimum(weights, (place - first) / length)
    if last < count:
        weights = np.minimum(weights, (last - place) / length)
    return weights
