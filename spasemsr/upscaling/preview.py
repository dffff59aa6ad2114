"""A contact sheet before the long run: one piece of a picture, restored in several ways side by side.

The piece is restored as a picture of its own, so objects are looked for in it alone; everything else is as in the run.
u v are lr pixels, H W pixels of the result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spasemsr.images.picture import Picture
from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Restorer
    from spasemsr.upscaling.settings import Settings
    from spasemsr.upscaling.upscaler import Upscaler

SIDE = 96  # lr pixels
DIALS = (0.0, 0.5, 1.0)
COLUMNS = 3
_GAP, _LINE, _PAPER, _INK = 8, 22, (255, 255, 255), (20, 20, 20)
Place = tuple[float, float]  # x and y of a middle, as shares of width and height


def piece(picture: Picture, at: Place | None = None) -> Picture:
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
    colour = picture.colour[top : top + rows, left : left + columns].copy()
    return replace(picture, colour=colour, alpha=None)


def ways(
    upscaler: "Upscaler", part: Picture, settings: "Settings", others: Mapping[str, "Restorer"]
) -> Iterator[tuple[str, ImageU8]]:
    """Label and (H, W, 3) uint8 of each way: bicubic, restorers alone, then the model along the dial.

    `others` are restorers by label, beside the model's own; settings are those of the run but for the dial and size.
    """
    lr, scale = part.rgb8(), upscaler.config.scale
    yield "bicubic", to_pixels(bicubic_upsample(to_tensor(lr[None]), scale))[0]
    for label, restorer in {"restorer alone": upscaler.restorer, **others}.items():
        yield label, restorer.restore([lr], scale)[0]
    whole = settings.model_copy(update={"scale": scale, "width": None, "height": None})
    description = upscaler.describe(part, whole)
    for dial in DIALS:
        asked = whole.model_copy(update={"dial": dial, "dials": ()})
        yield f"--dial {dial:g}", upscaler.restore(part, asked, description).picture.rgb8()


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
        for column, (label, pixels) in enumerate(line):
            left, top = _GAP + column * (width + _GAP), _LINE + _GAP + row * (height + _LINE + _GAP)
            draw.text((left, top + 3), label, _INK, font)
            paper.paste(Image.fromarray(pixels), (left, top + _LINE))
    return np.asarray(paper)
