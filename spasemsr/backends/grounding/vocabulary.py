"""A fixed list of names as tags: every image is asked for all of them, and the detector decides.

Stands in for RAM (Recognize Anything) of Grounded-SAM's demo. RAM's checkpoint runs only with its own code, which is on
no package index, contains transformers 4.15's BERT and does not import with transformers 5; no library has taken it up.
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
