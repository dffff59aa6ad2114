"""`spasemsr upscale --preview`: for each picture a contact sheet of one piece, to choose by before the long run."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.tools.upscale import FAILED, INTERRUPTED, MAX_PIXELS, OK, Request, sources_of
from spasemsr import atomic
from spasemsr.errors import RejectedSample, UserError
from spasemsr.images import writing
from spasemsr.images.names import shown
from spasemsr.images.picture import Picture, read_picture
from spasemsr.upscaling import files

if TYPE_CHECKING:
    from spasemsr.upscaling.preview import Place
    from spasemsr.upscaling.upscaler import Upscaler

log = logging.getLogger(__name__)

ENDING = "_preview"


def parse_place(text: str) -> "Place":
    """ "0.3,0.7" -> (0.3, 0.7), x and y as shares of the picture. Raises UserError."""
    try:
        x, y = (float(part) for part in text.split(","))
        if 0 <= x <= 1 and 0 <= y <= 1:
            return x, y
    except ValueError:
        pass
    raise UserError(f"--preview-at: {text!r} is no place in a picture.", "Say it like 0.3,0.7: 0,0 is top left.")


def run(request: Request, at: "Place | None", load_upscaler: Callable[[], "Upscaler"]) -> int:
    """A sheet for every input, PNG; the exit status as of `upscale`. Raises UserError for what stops the whole run."""
    from spasemsr.upscaling import preview

    sources = sources_of(request)
    places = files.targets(sources, request.out, ENDING, "PNG")
    files.require_writable(request.out)
    upscaler, others, failed = load_upscaler(), preview.others(), 0
    try:
        for source, place in zip(sources, places, strict=True):
            try:
                picture = read_picture(source.path, MAX_PIXELS)
                if place is None:
                    raise RejectedSample("changed", "another file took its place while this ran; run the same again")
                if files.is_input(place, sources) or (place.exists() and not request.force):
                    raise RejectedSample("exists", f"{shown(place)} is there; --force replaces it")
                name = shown(source.path.name)
                pixels = preview.contact_sheet(upscaler, picture, request.settings, others, name, at)
                sheet = Picture(pixels, None, "PNG")
                atomic.write(place, writing.encode(sheet))
                width, height = sheet.size
                log.info("preview   %s: %s %dx%d", shown(source.path), shown(place), width, height)
            except RejectedSample as rejected:
                failed += 1
                log.info("failed    %s: %s", shown(source.path), rejected)
            except OSError as error:
                raise UserError(f"{shown(request.out)} cannot be written: {error.strerror}.", "Name another.") from None
    except KeyboardInterrupt:
        return INTERRUPTED
    return FAILED if failed else OK
