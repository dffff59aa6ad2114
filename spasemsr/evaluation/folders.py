"""A folder of pictures made by anybody's code -> keys.

A key is the file's stem, less an ending that the caller names; position and order play no part. Two ways of writing an
accent are one key. Results of `upscale` have the key of the picture they were made from, and their maps have none.
"""

from collections.abc import Sequence
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.images.formats import FOREIGN_SUFFIXES, SUFFIXES
from spasemsr.images.names import composed, is_utf8, shown
from spasemsr.images.results import Neighbours


def index(folder: Path, what: str, strip: Sequence[str] = ()) -> dict[str, Path]:
    """Key -> file of every picture in a folder, sorted by key; `strip` lists endings that are no part of a key.

    Files that are no pictures, hidden files and subfolders are left alone. Raises UserError for an absent or empty
    folder, a picture in a format that cannot be scored, a name that is no UTF-8, and two files of one key.
    """
    if not folder.is_dir():
        raise UserError(f"{what}: there is no folder {shown(folder)}.", "Give the folder that holds the pictures.")
    found: dict[str, Path] = {}
    ours = Neighbours(folder)
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or ours.is_map(path) or not (path.is_file() or path.is_symlink()):
            continue
        if suffix in FOREIGN_SUFFIXES:
            raise UserError(f"{what}: {shown(path.name)} is in a format that is not scored.", "Convert it to PNG.")
        if suffix not in SUFFIXES or path.is_dir():
            continue
        if not is_utf8(path.name):
            raise UserError(
                f"{what}: the name {shown(path.name)} is not UTF-8 and can be no key.",
                "Rename it; convmv -r -f latin1 -t utf8 --notest FOLDER does so for a whole folder.",
            )
        key = composed(_key(path.stem, strip))
        if key == composed(path.stem) and (ending := ours.ending(path)):
            key = key.removesuffix(ending)
        if key in found:
            raise UserError(
                f"{what}: {found[key].name} and {path.name} have the same key, {key}.", "Keep one file for each key."
            )
        found[key] = path
    if not found:
        raise UserError(
            f"{what}: no pictures in {shown(folder)}.", f"Expected files ending in {', '.join(sorted(SUFFIXES))}."
        )
    return dict(sorted(found.items()))


def _key(stem: str, strip: Sequence[str]) -> str:
    for ending in strip:
        if ending and stem.endswith(ending) and len(stem) > len(ending):
            return stem[: -len(ending)]
    return stem
