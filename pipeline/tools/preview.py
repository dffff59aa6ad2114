"""`spasemsr upscale --preview`: for each picture a contact sheet of one piece, to choose by before the long run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tools.upscale import (
    FAILED,
    INTERRUPTED,
    MAX_PIXELS,
    OK,
    Request,
    account,
    made_of,
    require_free,
    sources_of,
)
from spasemsr.errors import RejectedSample, UserError
from spasemsr.hashing import fingerprint
from spasemsr.images import writing
from spasemsr.images.names import shown
from spasemsr.images.opening import read_bytes
from spasemsr.images.picture import MAX_BYTES, Picture, parse_picture
from spasemsr.upscaling import files
from spasemsr.upscaling.files import Source

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Restorer
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
    """A sheet for every input, PNG, with its sidecar; the exit status as of `upscale`.

    What is done is skipped. Raises UserError for what stops the whole run.
    """
    from spasemsr.upscaling import preview

    sources = sources_of(request)
    places = files.targets(sources, request.out, ENDING, "PNG")
    files.require_writable(request.out)
    upscaler, others, failed = load_upscaler(), preview.others(), 0
    try:
        for source, place in zip(sources, places, strict=True):
            try:
                outcome, said = _sheet(request, at, source, place, sources, upscaler, others)
            except RejectedSample as rejected:
                outcome, said, failed = "failed", str(rejected), failed + 1
            log.info("%-9s %s: %s", outcome, shown(source.path), said)
    except KeyboardInterrupt:
        return INTERRUPTED
    return FAILED if failed else OK


def _sheet(
    request: Request,
    at: "Place | None",
    source: Source,
    place: Path | None,
    sources: Sequence[Source],
    upscaler: "Upscaler",
    others: "Mapping[str, Restorer]",
) -> tuple[str, str]:
    """Write the sheet of one file -> ("preview" or "skipped", what to say). Raises RejectedSample, and UserError."""
    from spasemsr.upscaling.preview import contact_sheet

    data = read_bytes(source.path, MAX_BYTES)
    picture = parse_picture(data, MAX_PIXELS)
    if place is None:
        raise RejectedSample("changed", "another file took its place while this ran; run the same again")
    made = made_of(request.settings, upscaler, data, picture.format) | {"at": at, "beside": list(others)}
    name = fingerprint(made)
    require_free(request, place, sources, name)
    if not request.force and files.state(place, name, with_map=False) == "done":
        return "skipped", f"{shown(place)} is done"
    sheet = contact_sheet(upscaler, picture, request.settings, others, shown(source.path.name), at)
    drawn = Picture(sheet.pixels, None, "PNG")
    encoded = writing.encode(drawn)
    record = account(source, picture, drawn, upscaler, made) | {"preview": sheet.plain()}
    if not files.publish(place, encoded, files.sidecar(name, [(place, encoded)], record), None, request.force):
        raise RejectedSample("exists", f"another run wrote {shown(place)} meanwhile; --force replaces it")
    width, height = drawn.size
    return "preview", f"{shown(place)} {width}x{height}"
