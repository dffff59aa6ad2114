"""How many samples a profile will have: from `patches.jsonl` where that is the profile's, else from picture sizes."""

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import layout
from spasemsr.config import Params, ProfileName
from spasemsr.data.columns import Column
from spasemsr.data.patches import Patch, grid, of_splits, read_patches
from spasemsr.data.sources import Sources, fixed_split
from spasemsr.data.spec import DataSpec
from spasemsr.errors import UserError
from spasemsr.images.formats import SUFFIXES
from spasemsr.images.opening import header


@dataclass(frozen=True)
class Counts:
    """Patches of the training split and of evaluation splits, their sides in pixels, and where the numbers are from."""

    train: int
    evaluation: int
    patch: int
    val_patch: int
    variants: int
    origin: str

    def units(self, column: Column) -> int:
        """Results of a column: patches of its splits, of variants where it has them."""
        own = len(column.members_of(0)) > 0
        train = self.train * (self.variants if own else 1) if "train" in column.splits else 0
        return train + (self.evaluation if "val" in column.splits else 0)


def count(params: Params, name: ProfileName, samples: int | None = None) -> Counts:
    """Count for the profile of this name; `samples` training patches, if given, stand for those of the photographs."""
    spec = getattr(params, name).data
    if layout.PATCHES.exists() and _belongs(patches := read_patches(layout.PATCHES), spec):
        train = len(of_splits(patches, ("train",)))
        counts = _counts(spec, train, len(patches) - train, str(layout.PATCHES))
    elif samples is not None:
        counts = _counts(spec, 0, 0, "")
    else:
        counts = _estimated(Sources.of(spec, params.photographs), spec)
    if samples is None:
        return counts
    evaluation = counts.evaluation or max(round(samples * spec.val_fraction), 1)
    return replace(counts, train=samples, evaluation=evaluation, origin="as asked")


def _counts(spec: DataSpec, train: int, evaluation: int, origin: str) -> Counts:
    return Counts(train, evaluation, spec.patch, spec.val_patch, spec.variants, origin)


def _belongs(patches: list[Patch], spec: DataSpec) -> bool:
    """Whether patches were cut to the sizes of this profile."""
    sizes = {patch.split: patch.size for patch in patches}
    return sizes.get("train") == spec.patch and all(
        size == spec.val_patch for split, size in sizes.items() if split != "train"
    )


def _estimated(sources: Sources, spec: DataSpec) -> Counts:
    """From the sizes in the pictures' headers; nothing is decoded, so duplicates and damage are not seen."""
    found, _ = sources.photographs()
    if spec.scenes is not None:
        held = max(round(len(found) * spec.val_fraction), 1)
        return _counts(spec, len(found) - held, held, f"{len(found)} scenes")
    named = [photograph for photograph in found if Path(photograph.path).suffix.lower() in SUFFIXES]
    train = evaluation = images = 0.0
    for photograph in named:
        stated = header(sources.file(photograph.source, photograph.path))
        if stated is None:
            continue
        width, height = stated[1]
        cut = min(len(grid(height, width, spec.patch, spec.stride)), spec.max_patches)
        held = min(len(grid(height, width, spec.val_patch, spec.val_patch)), spec.val_max_patches)
        images += 1
        share = {"val": 1.0, "train": 0.0, None: spec.val_fraction}[fixed_split(photograph, spec)]
        train, evaluation = train + cut * (1 - share), evaluation + held * share
    if not images:
        raise UserError(
            "There are no photographs to plan for.", "Set `photographs` in params.yaml, or give --samples N."
        )
    origin = f"estimated from the sizes of {images:.0f} photographs"
    return _counts(spec, round(train), max(round(evaluation), 1), origin)
