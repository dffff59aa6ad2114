"""Finds text in pictures and reads it, with networks that lie in a package of the extra `real`."""

import logging
from functools import cache

from spasemsr.backends.text.reader import TextReader
from spasemsr.weights.packages import NotInstalled
from spasemsr.weights.store import locate

log = logging.getLogger(__name__)

DETECTION, RECOGNITION = "ppocr-v6-det-small", "ppocr-v6-rec-small"


@cache
def build_reader() -> TextReader | None:
    """The reader, one for all; None where its package is not installed, which is said once.

    Raises UserError for a package of another version, or with files that are not those of the registry.
    """
    try:
        found, read = locate(DETECTION), locate(RECOGNITION)
    except NotInstalled as error:
        log.warning("text is not looked for, so it is as sharp as the rest: %s %s", error.what, error.remedy)
        return None
    return TextReader(found.path, read.path, f"{found.sha256} {read.sha256}")
