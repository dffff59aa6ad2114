"""The units of work of a column: one cache entry each, a patch or one variant of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from spasemsr.data.columns import Column
from spasemsr.data.patches import Patch


@dataclass(frozen=True, slots=True)
class Unit:
    """One cache entry; `variant` is None for the members that do not depend on the degradation."""

    patch: Patch
    variant: int | None

    @property
    def order(self) -> tuple[Patch, int]:
        """Key order, and within a key the members without variant first."""
        return self.patch, -1 if self.variant is None else self.variant


def units_of(column: Column, patches: Iterable[Patch], variants: int = 1) -> list[Unit]:
    """The units of a column in key order; training patches have `variants` variants, evaluation patches one."""
    units = []
    for patch in sorted(patches):
        if patch.split in column.splits:
            if column.members_of(None):
                units.append(Unit(patch, None))
            if column.members_of(0):
                units += [Unit(patch, k) for k in range(variants if patch.split == "train" else 1)]
    return units
