"""Thin lines and lettering, of which the training photographs have too few, for the training of the sharp end.

Blurred in lr to less than they need, lines come back grey and wide from a network that saw few of them. So they are
drawn: planes of one shade, families of straight lines as a plane's perspective has them, half a pixel to four wide,
and rows of letters, over a blurred photograph, so that colours and light are as usual. Everything is drawn at four
times the size and averaged, which is what a sensor does.
"""

import string

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spasemsr.pixels import ImageU8

FINER = 4  # times the size at which all is drawn
WIDTHS = (0.5, 4.0)  # of lines, pixels
SPACES = (6.0, 70.0)  # between the lines of a family, pixels
HEIGHTS = (10.0, 60.0)  # of letters, pixels
LETTERS = string.ascii_letters + string.digits + "  .,-&"
TILT = 0.35  # by how much of the side a plane's corners may move
BLUR, SOFT = (8.0, 40.0), (0.0, 0.7)  # sigma of the photograph behind, of the finished picture; pixels


def drawn(behind_HW3: ImageU8, rng: np.random.Generator) -> ImageU8:
    """(H, H, 3) u8 of the same size, over a blurred copy of it."""
    side = len(behind_HW3)
    picture = cv2.GaussianBlur(behind_HW3, (0, 0), float(rng.uniform(*BLUR)))
    large = Image.fromarray(picture).resize((side * FINER, side * FINER), Image.Resampling.BICUBIC)
    for _ in range(int(rng.integers(1, 4))):
        _plane(large, rng)
    finished = np.asarray(large.resize((side, side), Image.Resampling.BOX))
    sigma = float(rng.uniform(*SOFT))
    return cv2.GaussianBlur(finished, (0, 0), sigma) if sigma > 0.2 else np.ascontiguousarray(finished)


def _plane(large: Image.Image, rng: np.random.Generator) -> None:
    """Something flat, drawn in its own square and put into the picture as a camera would see it."""
    side = large.width
    shade, ink = _colours(large, rng)
    plane = Image.new("RGBA", (side, side), (*shade, int(rng.integers(120, 256))))
    if rng.random() < 0.3:
        _letters(plane, ink, rng)
    else:
        for _ in range(int(rng.integers(1, 4))):
            _lines(plane, ink, rng)
    corners = np.array([(0, 0), (side, 0), (side, side), (0, side)], np.float32)
    there = corners + rng.uniform(-TILT, TILT, (4, 2)).astype(np.float32) * side
    if rng.random() < 0.5:  # larger than the picture, which then shows nothing else
        there = (there - side / 2) * 2 + side / 2
    seen = cv2.warpPerspective(
        np.asarray(plane), cv2.getPerspectiveTransform(corners, there), (side, side), flags=cv2.INTER_LINEAR
    )
    large.paste(Image.fromarray(seen[..., :3]), mask=Image.fromarray(seen[..., 3]))


def _colours(large: Image.Image, rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a plane, near those of the picture, and of what is drawn on it: most often darker, and grey."""
    base = np.asarray(large.resize((1, 1)), float)[0, 0] + rng.normal(0, 30, 3) * (rng.random() < 0.3)
    shade = np.clip(base + rng.normal(0, 45), 20, 245)
    if rng.random() < 0.8:
        ink = shade * rng.uniform(0, 0.75) if rng.random() < 0.75 else shade + (255 - shade) * rng.uniform(0.3, 1)
    else:
        ink = rng.uniform(0, 255, 3)
    return tuple(int(value) for value in shade), tuple(int(value) for value in np.clip(ink, 0, 255))


def _lines(plane: Image.Image, ink: tuple[int, ...], rng: np.random.Generator) -> None:
    """One family of parallel lines, evenly apart or not."""
    side, angle = plane.width, rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    width = FINER * np.exp(rng.uniform(*np.log(WIDTHS)))
    space = max(FINER * np.exp(rng.uniform(*np.log(SPACES))), 3 * width)
    uneven, draw, at = rng.random() < 0.4, ImageDraw.Draw(plane), -side
    while at < side:
        middle = side / 2 + across * at
        draw.line([*(middle - along * side), *(middle + along * side)], (*ink, 255), max(1, round(width)))
        at += space * (rng.uniform(0.4, 2.0) if uneven else 1)


def _letters(plane: Image.Image, ink: tuple[int, ...], rng: np.random.Generator) -> None:
    """Rows of letters that say nothing, from edge to edge."""
    height = FINER * np.exp(rng.uniform(*np.log(HEIGHTS)))
    font, draw, at = ImageFont.load_default(height), ImageDraw.Draw(plane), 0.0
    bold = round(height * rng.uniform(0, 0.04))
    while at < plane.height:
        text = "".join(rng.choice(list(LETTERS), 60))
        draw.text((-rng.uniform(0, height), at), text, (*ink, 255), font, stroke_width=bold)
        at += height * rng.uniform(1.1, 2.0)
