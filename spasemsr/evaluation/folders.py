"""A folder of pictures made by anybody's code -> keys.

A key is the file's stem as it can be shown, less endings that the caller names; position and order play no part. Two
ways of writing an accent are one key. Results of `upscale` have the key of the picture they were made from, and their
maps have none.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.evaluation.naming import without
from spasemsr.images.formats import FOREIGN_SUFFIXES, SUFFIXES
from spasemsr.images.names import composed, files_below, is_utf8, looks_like_a_picture, shown
from spasemsr.images.results import Neighbours

_LOOKED_AT = 10_000  # files below a folder: somebody may name a whole disk
_LISTED = 3  # subfolders in a message


def index(
    folder: Path, what: str, strip: Sequence[str] = (), left_out: dict[str, str] | None = None
) -> dict[str, Path]:
    """Key -> file of every picture in a folder, sorted by key; `strip` lists endings that are no part of a key.

    Files that are no pictures, hidden files and subfolders are left alone. Raises UserError for an absent or empty
    folder, a picture in a format that cannot be scored, a name that is no UTF-8, and two files of one key. Given
    `left_out`, a file of such a format or name is entered there, as shown, with the reason.
    """
    if not folder.is_dir():
        raise UserError(f"{what}: there is no folder {shown(folder)}.", "Give the folder that holds the pictures.")
    found: dict[str, Path] = {}
    endings = [composed(ending) for ending in strip]
    ours = Neighbours(folder)
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or ours.is_map(path) or not (path.is_file() or path.is_symlink()):
            continue
        if path.is_dir() or suffix not in SUFFIXES | FOREIGN_SUFFIXES:
            continue
        if refused := _refused(path):
            if left_out is None:
                raise UserError(f"{what}: {refused.what}", refused.remedy)
            left_out[f"{what} {shown(path.name)}"] = refused.what
            continue
        stem = shown(composed(path.stem))
        key = without(stem, endings)
        if key == stem and (ending := ours.ending(path)):
            key = key.removesuffix(ending)
        if key in found:
            raise UserError(
                f"{what}: {shown(found[key].name)} and {shown(path.name)} have the same key, {key}.",
                "Keep one file for each key.",
            )
        found[key] = path
    if not found and (below := left_below(folder)):
        raise UserError(f"{what}: no pictures in {shown(folder)}, but {below}.", "Give one of these folders.")
    if not found:
        raise UserError(
            f"{what}: no pictures in {shown(folder)}.", f"Expected files ending in {', '.join(sorted(SUFFIXES))}."
        )
    return dict(sorted(found.items()))


def _refused(path: Path) -> UserError | None:
    """Why a picture can be no result, told by its name alone."""
    name = shown(path.name)
    if path.suffix.lower() in FOREIGN_SUFFIXES:
        return UserError(f"{name} is in a format that is not scored.", "Convert it to PNG, or move it elsewhere.")
    if not is_utf8(path.name):
        return UserError(
            f"the name {name} is not UTF-8 and can be no key.",
            "Rename it; convmv -r -f latin1 -t utf8 --notest FOLDER does so for a whole folder.",
        )
    return None


def left_below(folder: Path) -> str:
    """How many pictures lie in which folders below, which `index` leaves alone; "" for none."""
    counts: Counter[Path] = Counter()
    with contextlib.suppress(UserError):  # a folder that cannot be read ends the count, not the run
        for path in islice(files_below(folder), _LOOKED_AT):
            if path.parent != folder and looks_like_a_picture(path):
                counts[path.parent.relative_to(folder)] += 1
    listed = [f"{count} in {shown(below)}" for below, count in list(counts.items())[:_LISTED]]
    return ", ".join([*listed, *([f"{len(counts) - _LISTED} more folders"] if len(counts) > _LISTED else [])])
