"""Names of picture files: which a folder holds, how they are shown, and when two are the same.

A file name is bytes. Most are UTF-8; what is not (names from old archives) is shown with `\\xe9` for a byte, and so are
control characters. Two names that differ only in how Unicode writes an accent are one name.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.images.formats import FOREIGN_SUFFIXES, SUFFIXES

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def shown(path: Path | str) -> str:
    """A path as text that can be printed and written anywhere: one line, and nothing that steers a terminal."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def is_utf8(path: Path | str) -> bool:
    """Whether a name can be written into UTF-8 text and read back."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def composed(name: str) -> str:
    """A name in the one form (NFC) in which equal names are equal strings."""
    return unicodedata.normalize("NFC", name)


def looks_like_a_picture(path: Path) -> bool:
    """By its ending: a format that is read, or one that is refused with a reason."""
    return path.suffix.lower() in SUFFIXES | FOREIGN_SUFFIXES


def files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder and all below it, sorted within each, hidden ones left out.

    Linked folders are entered, each folder once, so a loop of links ends; a link to nothing is listed as a file. Raises
    UserError for a folder that cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        stat = os.stat(parent)
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(files) if not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise UserError(f"Cannot read the folder {shown(error.filename)}: {error.strerror}.", "Give yourself permission.")
