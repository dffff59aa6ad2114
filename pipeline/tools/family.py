"""Which published numbers a set's own may stand beside.

Several tables called "RealSR" are in print. They differ in the images (crops of 512 px, or whole photographs), and in
what PSNR is taken of (Y, or RGB, about 1.5 dB lower). What a folder holds shows in how many images it has and how
large they are; a named set of another size is refused before anything is scored.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from spasemsr.errors import UserError
from spasemsr.evaluation.testsets import SETS, TestSet
from spasemsr.images.opening import header

SIDES = {"realsr": 512, "drealsr": 512, "div2k-val-a": 512, "div2k-val-b": 512}  # px of hr, all square


def require_size(test_set: TestSet, hr: Mapping[str, Path]) -> None:
    """Raise UserError where hr of a paired set is not of the size that the published crops have."""
    side = SIDES.get(test_set.name)
    if side is None:
        return
    for key, (width, height) in _sizes(hr).items():
        if (width, height) != (side, side):
            raise UserError(
                f"{test_set.label}: {key} has {width}x{height} pixels; the published numbers are of crops of "
                f"{side}x{side}, and others do not compare with them.",
                f"Take the published crops, {test_set.source}, or score without --set.",
            )


def describe(keys: Sequence[str], hr: Mapping[str, Path], test_set: TestSet | None = None) -> str:
    """One line on the family that scores of these images belong to; `test_set` is the one that was asked for."""
    if test_set is not None:
        crops = f"crops of {SIDES[test_set.name]} px, " if test_set.name in SIDES else ""
        return f"{test_set.label}, {crops}PSNR and SSIM of Y; numbers of RGB or of other crops are another family"
    sizes = Counter(_sizes(hr).values())
    alike = [
        entry
        for entry in (SETS[name] for name in SIDES)
        if len(keys) == entry.n and set(sizes) == {(SIDES[entry.name],) * 2} and _could_be(entry, keys)
    ]
    if alike:
        names = ", ".join(f"{entry.label} (--set {entry.name} checks it)" for entry in alike)
        return f"by number and size this may be {names}; until then no published number belongs beside these"
    (width, height), count = sizes.most_common(1)[0] if sizes else ((0, 0), 0)
    some = f"{count} of {width}x{height} px" if count else "no hr"
    return f"none of the named sets ({len(keys)} images, {some}): no published number belongs beside these"


def _could_be(entry: TestSet, keys: Sequence[str]) -> bool:
    return entry.keys is None or sorted(entry.keys) == sorted(keys)


def _sizes(files: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """Width and height of each file, as its header states them; what cannot be read is refused later, by name."""
    stated = {key: header(path) for key, path in files.items()}
    return {key: known[1] for key, known in stated.items() if known is not None}
