"""Images -> data URIs of a self-contained page, as good as fits a byte budget.

Few images are embedded losslessly; many become smaller WebP, at the same quality for every method, so that no method
looks better for how it was compressed. The page says which it was and links to the originals.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from spasemsr.errors import UserError

BUDGET = 15_000_000  # characters of data URIs; leaves room for tables and curves in a page of 20 MB
_PROBES = 6  # images encoded to choose a quality before all are


@dataclass(frozen=True)
class Quality:
    """Longest side in pixels (an image is never enlarged) and WebP quality; None is lossless."""

    side: int
    webp: int | None

    def describe(self) -> str:
        """For the reader of the page."""
        how = "without loss" if self.webp is None else f"as WebP of quality {self.webp}"
        return f"embedded {how}, at most {self.side} px a side"


LADDER = (
    Quality(512, None),
    Quality(512, 92),
    Quality(512, 84),
    Quality(384, 84),
    Quality(256, 84),
    Quality(192, 80),
    Quality(128, 76),
    Quality(96, 60),
)


@dataclass(frozen=True)
class Embedded:
    """One image in the page: its data URI and the size in pixels of the file it was made from."""

    uri: str
    width: int
    height: int


def embed_all(paths: Sequence[Path], budget: int = BUDGET) -> tuple[dict[Path, Embedded], Quality]:
    """Every image at the best quality at which all together fit the budget.

    Raises UserError naming an image that cannot be read, or when the images are too many at any quality.
    """
    unique = list(dict.fromkeys(paths))
    probes = unique[:: len(unique) // _PROBES + 1]
    for quality in LADDER:
        expected = sum(len(embed(path, quality).uri) for path in probes) * len(unique) / max(len(probes), 1)
        if expected > 1.1 * budget:
            continue
        embedded = _within(unique, quality, budget)
        if embedded is not None:
            return embedded, quality
    raise UserError(f"{len(unique)} pictures do not fit a page of {budget} bytes.", "Show fewer images on the page.")


def _within(paths: Sequence[Path], quality: Quality, budget: int) -> dict[Path, Embedded] | None:
    """All images at one quality, or None as soon as they exceed the budget."""
    embedded, total = {}, 0
    for path in paths:
        embedded[path] = embed(path, quality)
        total += len(embedded[path].uri)
        if total > budget:
            return None
    return embedded


def embed(path: Path, quality: Quality) -> Embedded:
    """One image file as a data URI."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise UserError(f"The picture {path} {reason}.", "Run: dvc repro evaluate") from None
    width, height = image.size
    if max(width, height) > quality.side:
        image.thumbnail((quality.side, quality.side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if quality.webp is None:
        image.save(buffer, "WEBP", lossless=True, quality=60, method=3)
    else:
        image.save(buffer, "WEBP", quality=quality.webp, method=4)
    return Embedded("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), width, height)
