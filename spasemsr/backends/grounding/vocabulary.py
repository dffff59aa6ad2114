"""A fixed list of names as tags: every image is asked for all of them, and the detector decides.

Stands in the place of RAM (Recognize Anything), the tagger of Grounded-SAM's demo. RAM's network is in
`backends/networks/ram.py`, for its representation of a picture; the names and thresholds of its 4,585 tags lie in no
package and are not here.
"""

from collections.abc import Sequence

from spasemsr.backends.grounding.spec import VocabularyTaggerSpec
from spasemsr.backends.networks.answers import names_in
from spasemsr.backends.protocols import Tag
from spasemsr.pixels import ImageU8


class VocabularyTagger:
    """All names of the list, each with score 1."""

    def __init__(self, spec: VocabularyTaggerSpec) -> None:
        self._names = names_in(spec.names)

    def tag(self, images: Sequence[ImageU8]) -> list[list[Tag]]:
        """The same tags for every image."""
        return [[Tag(name, 1.0) for name in self._names] for _ in images]
