"""What the page does when a person acts: values of its components in, values of its components out; no layout here.

A table row is an object: name, left, top, right and bottom in percent of the picture, and its own strength: a number
from 0 to 1, OFF for one that is left out, or nothing. What goes wrong becomes `Refusal`, one sentence for the person.
"""

import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spasemsr.backends.protocols import Box, Restorer
from spasemsr.errors import RejectedSample, UserError
from spasemsr.images import writing
from spasemsr.images.opening import header
from spasemsr.images.picture import Picture, read_picture
from spasemsr.upscaling import preview
from spasemsr.upscaling.description import Description
from spasemsr.upscaling.files import result_name
from spasemsr.upscaling.lettering import warnings
from spasemsr.upscaling.regions import overlaps
from spasemsr.upscaling.settings import OFF, Settings, Strength, clean_text, located
from spasemsr.upscaling.upscaler import Report, Restored, Upscaler

SHOWN_SIDE = 2048  # pixels of the longer side of what is shown; the download is whole
MARKED_SIDE = 640  # smaller pictures are enlarged before names are written into them
KEPT_RESULTS = 20
Row = list[Any]
Point = Sequence[float]  # from the left and from the top, in percent of the picture
Others = Mapping[str, Callable[[], Upscaler]]
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")


class Refusal(Exception):
    """One sentence for the person at the page."""


class Stopped(Exception):
    """The person asked to stop."""


@dataclass(frozen=True)
class Asked:
    """What a person asks for: a file with the objects of the table and the caption, restored with these settings.

    `visitor` is who waits for it, `chosen` one of `Session.choices`, or nothing, `turn` what `Session.begin` said.
    """

    path: str
    rows: Sequence[Row]
    caption: str
    settings: Settings
    visitor: str = ""
    chosen: str = ""
    turn: int = 0

    def description(self) -> Description:
        """What the table and the caption say. Raises Refusal naming a row."""
        return Description(tuple(boxes_of(self.rows)), clean_text(self.caption))


@dataclass(frozen=True)
class Shown:
    """A result as the page shows it: before and after at the same size, the file to download, one line about it."""

    before: np.ndarray
    after: np.ndarray
    file: Path
    summary: str


class Session:
    """The page's actions around one upscaler, or several. Results lie in a temporary folder; the latest are kept."""

    def __init__(
        self, upscaler: Upscaler, max_pixels: int, max_memory: int | None = None, others: Others | None = None
    ) -> None:
        """`others` load what a visitor can choose instead, when it is first chosen, each under a label."""
        self.max_pixels, self._max_memory = max_pixels, max_memory
        self._loaded, self._others = {"": upscaler}, dict(others or {})
        self._folder = tempfile.TemporaryDirectory(prefix="spasemsr-page-")
        self._results: list[Path] = []
        self._turns = count(1)
        self._stopped: dict[str, int] = {}  # of each visitor, the turns up to this one
        self._lock = threading.Lock()

    @property
    def choices(self) -> list[str]:
        """Labels of what can be chosen."""
        return list(self._others)

    def look(self, path: str, chosen: str = "") -> tuple[list[Row], str]:
        """An uploaded file -> the table of its objects, the caption."""
        picture = self._read(path)
        description = self._said(lambda: self._upscaler(chosen).describe(picture))
        rows = [[box.tag, *(round(100 * side, 1) for side in box.xyxy), None] for box in description.boxes]
        return rows, description.caption

    def mark(
        self, path: str, rows: Sequence[Row], chosen: int | None = None, corner: Point | None = None
    ) -> np.ndarray:
        """The picture with the objects of a table, the chosen one (a row from 0) in a thicker frame, and a corner."""
        return _marked(self._read(path), rows, chosen, corner)

    def restore(self, asked: Asked, report: Report) -> Shown:
        """The whole chain; `stop` with its visitor ends it. Raises Refusal."""
        picture, description = self._read(asked.path), asked.description()
        settings = asked.settings.model_copy(update={"dials": dials_of(asked.rows)})
        watched = self._watched(asked, report)

        def run() -> tuple[Restored, Path]:
            upscaler = self._upscaler(asked.chosen)
            restored = upscaler.restore(picture, settings, description, self._max_memory, report=watched)
            return restored, self._keep(asked.path, restored, settings.ending)

        restored, file = self._said(run)
        after = _shown(restored.picture)
        before = cv2.resize(picture.rgb8(), after.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        width, height = restored.picture.size
        sampling = restored.sampling
        summary = (
            f"{width} × {height} pixels · {sampling.solver}, {sampling.steps} steps from {sampling.start:g} of the "
            f"schedule, guidance {sampling.guidance:g} · seed {settings.seed} · {file.stat().st_size / 1e6:.1f} MB"
        )
        strengths = [_in_words(located(tag)[0], dial) for tag, dial in settings.dials]
        summary = " · ".join([summary, *strengths, *overlaps(restored.regions), *warnings(restored.text)])
        return Shown(before, after, file, summary)

    def compare(self, asked: Asked, report: Report, at: preview.Place | None = None) -> np.ndarray:
        """One piece of the picture by several ways and strengths: a sheet (H, W, 3) uint8. Raises Refusal.

        `at` is the middle of the piece; None takes the one with most detail. Strengths of single rows are left aside.
        `stop` with its visitor ends it between two of them.
        """
        picture, description = self._read(asked.path), asked.description()
        watched = self._watched(asked, report)

        def run() -> np.ndarray:
            upscaler, name = self._upscaler(asked.chosen), Path(asked.path).name
            beside, known = _beside(), description
            return preview.contact_sheet(upscaler, picture, asked.settings, beside, name, at, known, watched).pixels

        return self._said(run)

    def begin(self) -> int:
        """The turn of what somebody asks for now: an earlier stop is not of that."""
        return next(self._turns)

    def stop(self, visitor: str = "") -> None:
        """End what this visitor is waiting for, also where it has not begun."""
        self._stopped[visitor] = next(self._turns)

    def close(self) -> None:
        """Remove the results."""
        self._folder.cleanup()

    def _watched(self, asked: Asked, report: Report) -> Report:
        """`report`, which ends the work once its visitor asked to stop; Refusal where that was before it began."""

        def heed() -> None:
            if asked.turn < self._stopped.get(asked.visitor, 0):
                raise Stopped

        def watched(done: int, total: int) -> None:
            heed()
            report(done, total)

        self._said(heed)
        return watched

    def _upscaler(self, chosen: str) -> Upscaler:
        """What was chosen, loaded once. Raises UserError for weights that cannot be loaded."""
        with self._lock:
            if chosen not in self._loaded:
                self._loaded[chosen] = self._others[chosen]()
            return self._loaded[chosen]

    def _read(self, path: str) -> Picture:
        _, size = header(Path(path)) or ("", (0, 0))
        if size[0] * size[1] > self.max_pixels:
            limit = f"{self.max_pixels / 1e6:g} million pixels"
            raise Refusal(f"The picture has {size[0]} × {size[1]} pixels; this page takes up to {limit}.")
        return self._said(lambda: read_picture(Path(path), self.max_pixels))

    def _said(self, act: Callable[[], Any]) -> Any:
        """The result of an action, its expected failures as sentences."""
        try:
            return act()
        except Stopped:
            raise Refusal("Stopped.") from None
        except RejectedSample as rejected:
            raise Refusal(f"This picture cannot be used: {rejected.detail}.") from None
        except UserError as error:
            raise Refusal(f"{error.what} {error.remedy}") from None
        except MemoryError:
            raise Refusal("There is not enough memory for this picture.") from None

    def _keep(self, path: str, restored: Restored, ending: str) -> Path:
        """Write the result in its input's format, under its input's name."""
        form = writing.written_as(restored.picture.format)
        width, height = restored.picture.size
        writing.require_fit(form, width, height)
        result = writing.fitted(restored.picture, form)
        with self._lock:
            place = Path(tempfile.mkdtemp(dir=self._folder.name))
            file = place / result_name(Path(path).stem, ending, writing.SUFFIXES[form])
            file.write_bytes(writing.encode(result))
            self._results.append(file)
            for old in self._results[:-KEPT_RESULTS]:
                shutil.rmtree(old.parent, ignore_errors=True)
            del self._results[:-KEPT_RESULTS]
        return file


@cache
def _beside() -> Mapping[str, Restorer]:
    """Networks a preview compares with; each loads itself when it is first asked."""
    return preview.others()


def boxes_of(rows: Sequence[Row]) -> list[Box]:
    """Table rows -> boxes, first row first in rank; rows without a name are left out. Raises Refusal naming a row."""
    boxes = []
    for number, row in enumerate(rows, start=1):
        tag = clean_text(str(row[0] or ""))
        if not tag:
            continue
        try:
            left, top, right, bottom = (min(max(float(side), 0.0), 100.0) / 100 for side in row[1:5])
        except (TypeError, ValueError):
            raise Refusal(f"Row {number} ({tag}): left, top, right and bottom must be numbers from 0 to 100.") from None
        x0, x1, y0, y1 = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
        if not (x1 > x0 and y1 > y0):
            raise Refusal(f"Row {number} ({tag}): the box has no area.")
        boxes.append(Box(tag, (x0, y0, x1, y1), max(1.0 - 0.01 * (number - 1), 0.0)))
    return boxes


def dials_of(rows: Sequence[Row]) -> tuple[tuple[str, Strength], ...]:
    """Table rows -> the strengths of those that have one, each for its own box alone. Raises Refusal naming a row."""
    named = [(number, row) for number, row in enumerate(rows, start=1) if clean_text(str(row[0] or ""))]
    dials: list[tuple[str, Strength]] = []
    for (number, row), box in zip(named, boxes_of(rows), strict=True):
        given = row[5] if len(row) > 5 else None
        if given is None or given != given or not str(given).strip():
            continue
        place = f"{box.tag.replace('@', ' ')}@{','.join(f'{side:g}' for side in box.xyxy)}"
        if str(given).strip() == OFF:
            dials.append((place, OFF))
            continue
        try:
            dial = float(given)
        except (TypeError, ValueError):
            dial = -1.0
        if not 0 <= dial <= 1:
            raise Refusal(f"Row {number} ({box.tag}): its own strength must be a number from 0 to 1, or {OFF}.")
        dials.append((place, dial))
    return tuple(dials)


def _in_words(tag: str, strength: Strength) -> str:
    return f"{tag} left out" if strength == OFF else f"{tag} at {strength:g}"


def _marked(picture: Picture, rows: Sequence[Row], chosen: int | None, corner: Point | None) -> np.ndarray:
    """The picture as it is shown, with a frame and a name for every object, the surest on top, but the chosen one."""
    shown = Image.fromarray(_shown(picture))
    if max(shown.size) < MARKED_SIDE:
        factor = MARKED_SIDE / max(shown.size)
        shown = shown.resize((round(shown.width * factor), round(shown.height * factor)), Image.Resampling.BICUBIC)
    draw, unit = ImageDraw.Draw(shown), max(shown.size) / 320
    font = ImageFont.load_default(size=9 * unit)
    numbers = [number for number, row in enumerate(rows) if clean_text(str(row[0] or ""))]
    boxes = list(zip(numbers, boxes_of(rows), strict=True))
    for number, box in sorted(boxes, key=lambda numbered: (numbered[0] == chosen, -numbered[0])):
        colour = _COLOURS[number % len(_COLOURS)]
        x0, y0, x1, y1 = (side * (n - 1) for side, n in zip(box.xyxy, shown.size * 2, strict=True))
        thick = 4.0 if number == chosen else 1.5
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=max(round(thick * unit), 1))
        name = draw.textbbox((x0 + 3 * unit, y0 + 2 * unit), box.tag, font=font)
        draw.rectangle((x0, y0, name[2] + 3 * unit, name[3] + 2 * unit), fill=colour)
        draw.text((x0 + 3 * unit, y0 + 2 * unit), box.tag, fill="white", font=font)
    if corner is not None:
        x, y = (share / 100 * (n - 1) for share, n in zip(corner, shown.size, strict=True))
        for radius, colour in ((4 * unit, "black"), (3 * unit, "white")):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return np.asarray(shown)


def _shown(picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8, no larger than the page shows; transparency over white."""
    picture = writing.fitted(picture, "JPEG")
    image = Image.fromarray(picture.rgb8())
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX)
    return np.asarray(image)
