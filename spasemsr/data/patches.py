"""The patch: a square of one photograph, named by content, with its split and the tar it falls in.

`patches.jsonl` is the list every later stage works from, sorted by key. A key is `<16 hex of sha256(file)>_<y>_<x>`;
it has no dot, so WebDataset splits it from the member name.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from spasemsr import atomic
from spasemsr.errors import UserError

Split = Literal["train", "val"]
MAX_SIDE = 100_000  # pixels of a photograph: a key has five digits for a corner
KEY = re.compile(r"[0-9a-f]{16}_[0-9]{5}_[0-9]{5}")


@dataclass(frozen=True, order=True)
class Patch:
    """One patch; `path` is relative to its `source` ("folder" or "package:<name>"), y and x are pixels."""

    key: str
    split: Split
    bucket: int
    source: str
    path: str
    sha256: str
    y: int
    x: int
    size: int


def make_key(sha256: str, y: int, x: int) -> str:
    """The content-derived name of the patch at (y, x) of the file with this hash."""
    return f"{sha256[:16]}_{y:05d}_{x:05d}"


def bucket_of(sha256: str, num_buckets: int) -> int:
    """Which tar of a split all patches of an image share: a function of the image alone."""
    return int(sha256[:8], 16) % num_buckets


def tar_name(split: str, bucket: int) -> str:
    """File name of a tar within a column folder."""
    return f"{split}-{bucket:05d}.tar"


def grid(height: int, width: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Top-left corners (y, x) of all patches that lie inside an image, in reading order."""
    return [(y, x) for y in range(0, height - size + 1, stride) for x in range(0, width - size + 1, stride)]


def write_patches(path: Path, patches: Iterable[Patch]) -> None:
    """Write `patches.jsonl`, sorted by key."""
    atomic.write_text(path, "".join(json.dumps(asdict(patch), sort_keys=True) + "\n" for patch in sorted(patches)))


def read_patches(path: Path) -> list[Patch]:
    """Read `patches.jsonl`; one that is missing or damaged is a UserError naming the stage that writes it."""
    try:
        return [Patch(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", "Run: dvc repro ingest") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a list of patches: {error}.", "Run: dvc repro -f ingest") from None


def of_splits(patches: Sequence[Patch], splits: Sequence[Split]) -> list[Patch]:
    """The patches of some splits, in order."""
    return [patch for patch in patches if patch.split in splits]
