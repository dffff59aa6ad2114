"""A contact sheet before the long run: one piece of a picture, restored in several ways side by side.

The piece is restored as a picture of its own, so objects are looked for in it alone, unless a description of the whole
picture is given; everything else is as in the run. u v are lr pixels, H W pixels of the result.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spasemsr.backends.protocols import Box
from spasemsr.images.picture import Picture
from spasemsr.methods.compared import label, network_of, networks
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Restorer
    from spasemsr.upscaling.description import Description
    from spasemsr.upscaling.settings import Settings
    from spasemsr.upscaling.upscaler import Upscaler

SIDE = 96  # lr pixels
DIALS = {0.0: "dial 0, faithful", 0.5: "dial 0.5", 1.0: "dial 1, sharp"}
COLUMNS = 3
BASELINES = ("realesrgan-x4plus-ncnn",)  # where its package is installed
_GAP, _LINE, _PAPER, _INK = 8, 22, (255, 255, 255), (20, 20, 20)
Place = tuple[float, float]  # x and y of a middle, as shares of width and height
Made = Callable[[int, int], None]  # cells made, of how many; may raise to stop


@dataclass(frozen=True)
class Piece:
    """What of a picture is shown: rows top..top + height and columns left..left + width, in lr pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: Picture) -> Picture:
        """Its pixels as a picture, without transparency."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        return replace(picture, colour=picture.colour[rows, columns].copy(), alpha=None)

    def described(self, whole: "Description", picture: Picture) -> "Description":
        """What is known of the whole picture as the piece sees it: boxes clipped to it, those it hardly shows gone."""
        from spasemsr.diffusion.tiling import Tile, boxes_in_tile

        width, height = picture.size
        window = Tile(self.top, self.left, self.height, self.width)
        boxes, kept = boxes_in_tile(np.array([box.xyxy for box in whole.boxes]), window, height, width)
        seen = [whole.boxes[index] for index in kept]
        clipped = [Box(box.tag, tuple(sides), box.score) for box, sides in zip(seen, boxes.tolist(), strict=True)]
        return replace(whole, boxes=tuple(clipped))


def piece(picture: Picture, at: Place | None = None) -> Piece:
    """At most SIDE x SIDE pixels of a picture: around `at`, or where there is most detail."""
    height, width = picture.colour.shape[:2]
    rows, columns = min(SIDE, height), min(SIDE, width)
    if at is None:
        luma = cv2.cvtColor(picture.rgb8(), cv2.COLOR_RGB2GRAY).astype(np.float32)
        detail = np.abs(cv2.Laplacian(cv2.GaussianBlur(luma, (0, 0), 1.5), cv2.CV_32F))  # blurred: noise is no detail
        sums = cv2.integral(detail)
        totals = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
        top, left = (int(side) for side in np.unravel_index(int(totals.argmax()), totals.shape))
    else:
        left, top = (
            min(max(round(share * side - part / 2), 0), side - part)
            for share, side, part in zip(at, (width, height), (columns, rows), strict=True)
        )
    return Piece(top, left, rows, columns)


def others() -> dict[str, "Restorer"]:
    """Networks to compare with, by label; one that is not installed is left out, and said."""
    from spasemsr.backends.restorer import build_restorer

    return {label(name): build_restorer(network_of(name), "any") for name in networks(BASELINES)}


@dataclass(frozen=True)
class Sheet:
    """A sheet, (H, W, 3) uint8: the piece it shows, the labels of its ways, what the model was told of the piece."""

    pixels: ImageU8
    piece: Piece
    labels: tuple[str, ...]
    description: "Description"

    def plain(self) -> dict[str, Any]:
        """How it was made, as JSON-ready values."""
        return {"piece": asdict(self.piece), "ways": list(self.labels), **self.description.plain()}


def contact_sheet(
    upscaler: "Upscaler",
    picture: Picture,
    settings: "Settings",
    beside: Mapping[str, "Restorer"],
    name: str,
    at: Place | None = None,
    description: "Description | None" = None,
    made: Made | None = None,
) -> Sheet:
    """The sheet of one piece of a picture under its `name`; `beside` are restorers by label.

    `description` is of the whole picture; without one the piece is looked at alone.
    """
    chosen = piece(picture, at)
    part = chosen.of(picture)
    known = upscaler.describe(part, settings) if description is None else chosen.described(description, picture)
    cells, count = [], 2 + len(beside) + len(DIALS)
    for cell in ways(upscaler, part, settings, beside, known):
        cells.append(cell)
        if made is not None:
            made(len(cells), count)
    pixels = sheet(cells, f"{name}: {part.size[0]}x{part.size[1]} pixels, x{upscaler.config.scale}")
    return Sheet(pixels, chosen, tuple(label for label, _ in cells), known)


def ways(
    upscaler: "Upscaler",
    part: Picture,
    settings: "Settings",
    beside: Mapping[str, "Restorer"],
    description: "Description",
) -> Iterator[tuple[str, ImageU8]]:
    """Label and (H, W, 3) uint8 of each way: bicubic, restorers alone, then the model along the dial.

    `beside` are restorers by label, beside the model's own; settings are those of the run but for the dial and size.
    `description` is of the part.
    """
    lr, scale = part.rgb8(), upscaler.config.scale
    yield "bicubic", to_pixels(bicubic_upsample(to_tensor(lr[None]), scale))[0]
    for name, restorer in {"restorer alone": upscaler.restorer, **beside}.items():
        yield name, restorer.restore([lr], scale)[0]
    whole = settings.model_copy(update={"scale": scale, "width": None, "height": None})
    for dial, name in DIALS.items():
        asked = whole.model_copy(update={"dial": dial, "dials": ()})
        yield name, upscaler.restore(part, asked, description).picture.rgb8()


def sheet(cells: Sequence[tuple[str, ImageU8]], title: str) -> ImageU8:
    """Cells of one size in rows of COLUMNS, each under its label, below a title: (H, W, 3) uint8."""
    height, width = cells[0][1].shape[:2]
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    across = min(COLUMNS, len(cells))
    size = across * (width + _GAP) + _GAP, _LINE + _GAP + len(rows) * (height + _LINE + _GAP)
    paper = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(14)
    draw.text((_GAP, 6), title, _INK, font)
    for row, line in enumerate(rows):
        for column, (name, pixels) in enumerate(line):
            left, top = _GAP + column * (width + _GAP), _LINE + _GAP + row * (height + _LINE + _GAP)
            draw.text((left, top + 3), name, _INK, font)
            paper.paste(Image.fromarray(pixels), (left, top + _LINE))
    return np.asarray(paper)
