"""Embedded tagger: the names of the regions of `regions.py`."""

from collections.abc import Sequence

from spasemsr.backends.grounding.regions import Region, find_regions
from spasemsr.backends.protocols import Tag
from spasemsr.pixels import ImageU8


class PaletteTagger:
    """Names of the regions that stand out, each with the best score among its regions."""

    def tag(self, images: Sequence[ImageU8]) -> list[list[Tag]]:
        """(H, W, 3) u8 images -> their tags, best first."""
        return [_tags(find_regions(image)[1]) for image in images]


def _tags(regions: Sequence[Region]) -> list[Tag]:
    best: dict[str, float] = {}
    for region in regions:
        if region.score > 0:
            best[region.name] = max(best.get(region.name, 0.0), region.score)
    return [Tag(name, score) for name, score in sorted(best.items(), key=lambda item: (-item[1], item[0]))]
