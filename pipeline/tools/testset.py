"""`spasemsr testset build div2k-val-a`: DIV2K's 100 validation images -> 3,000 pairs, the same files on any machine.

Family A as SeeSR, XPSR and the paper describe it: random 512 px crops, Real-ESRGAN's harsh ranges. Nobody hosts theirs,
so these are crops of our own whose places and degradations are a function of the key alone. A pair that is there is
kept, so a stopped build goes on; `manifest.csv` names place and pixel hashes of every pair, for comparing two builds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.engine.executors import Executor, build_executor
from pipeline.engine.failures import Failed
from spasemsr.data.degradation import degrade_variant
from spasemsr.data.pairs import SCALE, SEED, read_photograph
from spasemsr.data.spec import DegradationSpec
from spasemsr.errors import RejectedSample, UserError
from spasemsr.evaluation.scores import check_keys, require_writable, write_rows
from spasemsr.evaluation.testsets import FAMILY_A_CROPS, FAMILY_A_IMAGES, named
from spasemsr.hashing import sha256_bytes
from spasemsr.pixels import ImageU8, write_png
from spasemsr.progress import Progress
from spasemsr.randomness import generator

SIDE, PRESET = 512, "seesr"


@dataclass(frozen=True)
class Crop:
    """A row of the manifest: where the hr of a pair was cut out, and the hashes of both pictures' pixels."""

    key: str
    y: int
    x: int
    hr_sha256: str
    lr_sha256: str


class CropWorker:
    """Image number -> its 30 pairs, written as `hr/<key>.png` and `lr/<key>.png`."""

    def __init__(self, source: Path, target: Path, side: int) -> None:
        self._source, self._target, self._side = source, target, side
        self._spec = DegradationSpec(preset=PRESET)

    def __call__(self, image: int) -> list[Crop]:
        """All crops of one image. Raises UserError for a file that is not DIV2K's."""
        path = self._source / f"{image:04d}.png"
        try:
            pixels = read_photograph(path)
        except RejectedSample as rejected:
            raise UserError(f"{path}: {rejected}.", "Take DIV2K_valid_HR from its authors again.") from None
        if min(pixels.shape[:2]) < self._side:
            raise UserError(f"{path} is smaller than {self._side} px.", "These are not DIV2K's images.")
        return [self._pair(pixels, f"{image:04d}_{crop:02d}") for crop in range(FAMILY_A_CROPS)]

    def _pair(self, pixels: ImageU8, key: str) -> Crop:
        random = generator(SEED, "div2k-val-a", key)
        y, x = (int(random.integers(0, side - self._side + 1)) for side in pixels.shape[:2])
        hr = np.ascontiguousarray(pixels[y : y + self._side, x : x + self._side])
        files = [self._target / part / f"{key}.png" for part in ("lr", "hr")]  # hr last: its lr is there where it is
        lr, kept = map(_existing, files)
        if kept is None or not np.array_equal(kept, hr) or lr is None or lr.shape[0] != self._side // SCALE:
            lr = degrade_variant(hr, self._spec, SCALE, SEED, key, 0).lr
            for path, picture in zip(files, (lr, hr), strict=True):
                write_png(path, picture)
        return Crop(key, y, x, sha256_bytes(hr.tobytes()), sha256_bytes(lr.tobytes()))


def build(name: str, source: Path, workers: int, target: Path | None = None, side: int = SIDE) -> Iterator[str]:
    """Build the set into `data/testsets/<name>`; yields what was written.

    Raises UserError for a set that is not built here, and for a folder that does not hold DIV2K's validation images,
    and where the set cannot be written.
    """
    entry = named(name)
    if entry.name != "div2k-val-a":
        raise UserError(f"{entry.label} is not built but downloaded: {entry.source}.", "See: spasemsr testset list")
    found = [path.stem for path in source.glob("*.png")] if source.is_dir() else []
    check_keys([f"{image:04d}" for image in FAMILY_A_IMAGES], found, f"The folder {source}")
    target = target or entry.folder("hr").parent
    for part in ("hr/trial", "lr/trial", "manifest.csv"):
        require_writable(target / part)
    pairs = _pairs(build_executor(None, workers), partial(CropWorker, source, target, side))
    lines = ([pair.key, pair.y, pair.x, pair.hr_sha256, pair.lr_sha256] for pair in pairs)
    write_rows(target / "manifest.csv", [["key", "y", "x", "hr_sha256", "lr_sha256"], *lines])
    check_keys(entry.keys or (), [pair.key for pair in pairs], "What was built")
    digest = sha256_bytes((target / "manifest.csv").read_bytes())
    yield f"{len(pairs)} pairs in {target.as_posix()} · manifest {digest[:16]} · keys {str(entry.keys_sha256)[:16]}"


def _pairs(where: Executor, make: "partial[CropWorker]") -> list[Crop]:
    """All pairs in key order, however many workers made them."""
    progress, pairs = Progress("testset", len(FAMILY_A_IMAGES), unit="images"), []
    for _, result in where.map(make, list(FAMILY_A_IMAGES)):
        if isinstance(result, Failed):
            raise UserError(result.what, result.remedy or "Run it again: finished pairs are kept.")
        pairs += result
        progress.advance()
    progress.close()
    return sorted(pairs, key=lambda pair: pair.key)


def _existing(path: Path) -> ImageU8 | None:
    """A picture written before, or None."""
    try:
        return read_photograph(path)
    except RejectedSample:
        return None
