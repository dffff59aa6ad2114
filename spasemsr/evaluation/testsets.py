"""The named test sets of the field: how many images, whether they have hr, where they come from, and their key list.

A set is checked before anything is scored on it. Its size is known. The hash of its key list is known where it follows
from facts (family A, whose keys we define ourselves). No one publishes hashes of the others, so the first use records
keys and file hashes in `data/testsets/<name>.json`, and every later use is compared with that record: a set that was
cropped anew under the same names, which moves PSNR by half a decibel, is then named. The first use itself cannot be
checked beyond its size, and says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spasemsr.errors import UserError
from spasemsr.evaluation.scores import check_keys, write_json
from spasemsr.hashing import digest_of, sha256_file

FOLDER = Path("data/testsets")


@dataclass(frozen=True)
class TestSet:
    """One entry; `strip` are endings of file names that are no part of the key, `keys` the key list where it is known.

    `family` tells which numbers may stand beside each other: DIV2K-Val A and B are different images.
    """

    __test__ = False  # for pytest, which collects classes called Test...

    name: str
    label: str
    n: int
    paired: bool
    source: str
    licence: str
    note: str = ""
    strip: tuple[str, ...] = ()
    keys: tuple[str, ...] | None = None

    @property
    def keys_sha256(self) -> str | None:
        """Hash of the key list, as `ScoreTable.keys_sha256`; None where it is not known beforehand."""
        return None if self.keys is None else digest_of((key,) for key in sorted(self.keys))

    def folder(self, part: str) -> Path:
        """Where the set lies unless said otherwise: `hr` or `lr`."""
        return FOLDER / self.name / part


FAMILY_A_IMAGES, FAMILY_A_CROPS = range(801, 901), 30
_STABLESR = "https://huggingface.co/datasets/Iceclear/StableSR-TestSets"
_CROPS = f"the 128/512 crops of StableSR's test sets, {_STABLESR}"
_RECROPS = "re-cropping the originals gives other numbers"
SETS = {
    entry.name: entry
    for entry in (
        TestSet(
            "realsr", "RealSR", 100, True, _CROPS, "RealSR: research use, ask its authors", _RECROPS,
            strip=("_LR4", "_HR"),
        ),
        TestSet(
            "drealsr", "DRealSR", 93, True, _CROPS, "DRealSR: academic research only", _RECROPS, strip=("_x1", "_x4")
        ),
        TestSet(
            "div2k-val-a", "DIV2K-Val", 3000, True,
            "built here from DIV2K's 100 validation images, https://data.vision.ee.ethz.ch/cvl/DIV2K",
            "DIV2K: academic research only",
            "harsh ranges, preset seesr; the published family A is hosted by no one, so these are other crops of it",
            keys=tuple(f"{image:04d}_{crop:02d}" for image in FAMILY_A_IMAGES for crop in range(FAMILY_A_CROPS)),
        ),
        TestSet(
            "div2k-val-b", "DIV2K-Val (mild)", 3000, True, f"DIV2K_V2_val of StableSR's test sets, {_STABLESR}",
            "DIV2K: academic research only", "mild ranges; never compare with family A",
        ),
        TestSet(
            "reallr200", "RealLR200", 200, False, "published with SeeSR, https://github.com/cswry/SeeSR",
            "its images' own, see SeeSR",
        ),
        TestSet(
            "reallq250", "RealLQ250", 250, False,
            "published with DreamClear, https://github.com/shallowdream204/DreamClear",
            "its images' own, see DreamClear",
        ),
        TestSet(
            "realphoto60", "RealPhoto60", 60, False, "published with SUPIR, https://github.com/Fanghua-Yu/SUPIR",
            "its images' own, see SUPIR",
        ),
        TestSet("dped-iphone", "DPED-iPhone", 113, False, _CROPS, "DPED: academic research only"),
    )
}  # fmt: skip


def named(name: str) -> TestSet:
    """The set of this name, in any case; UserError lists the names."""
    try:
        return SETS[name.lower()]
    except KeyError:
        raise UserError(f"No test set named {name!r}.", f"Choose from: {', '.join(SETS)}") from None


def verify(test_set: TestSet, files: Mapping[str, Path], folder: Path = FOLDER) -> dict[str, Any]:
    """Check the files (key -> file) of a set. Returns what was checked, for the record beside the scores.

    Raises UserError for another size, missing or extra keys, and a file that is not the recorded one.
    """
    what = f"{test_set.label} in {next(iter(files.values())).parent}" if files else test_set.label
    record = folder / f"{test_set.name}.json"
    known = _recorded(record)
    if test_set.keys is not None:
        check_keys(test_set.keys, list(files), what)
    elif known:
        check_keys(known["files"], list(files), what)
    if len(files) != test_set.n:
        raise UserError(
            f"{what} has {len(files)} images, the published set has {test_set.n}.", f"It is {test_set.source}."
        )
    hashes = {key: sha256_file(path) for key, path in sorted(files.items())}
    facts = {"set": test_set.name, "n": test_set.n, "keys_sha256": digest_of((key,) for key in sorted(files))}
    if not known:
        write_json(record, {**facts, "files": hashes})
        listed = "and key list as known" if test_set.keys else "as published; no key list is"
        return {**facts, "checked": f"first use: size {listed}; files recorded in {record.as_posix()}"}
    if changed := [key for key, value in hashes.items() if known["files"][key] != value]:
        raise UserError(
            f"{what}: {len(changed)} of {test_set.n} files are not the recorded ones ({', '.join(changed[:10])}).",
            f"Restore them, or delete {record} to start a new record; numbers before and after do not compare.",
        )
    return {**facts, "checked": f"keys and files equal to {record.as_posix()}"}


def describe(sets: Sequence[TestSet] = tuple(SETS.values())) -> list[str]:
    """A line or two for each set: what `spasemsr testset list` prints."""
    lines = []
    for entry in sets:
        kind = "paired" if entry.paired else "LR only"
        keys = f"keys {entry.keys_sha256[:16]}" if entry.keys_sha256 else "keys recorded on first use"
        lines.append(f"{entry.name:<12} {entry.label:<17} {entry.n:>5}  {kind:<8} {keys}")
        lines.append(f"{'':<12} {entry.source} · {entry.licence}" + (f" · {entry.note}" if entry.note else ""))
    return lines


def _recorded(path: Path) -> dict[str, Any] | None:
    """The record of an earlier use, or None."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["files"], dict):
            raise TypeError
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged.", "Restore it from git, or delete it to record the set again.") from None
    return record
