"""A fixed list of names as tags: every image is asked for all of them, and the detector decides.

Stands in for RAM (Recognize Anything) of Grounded-SAM's demo. RAM's checkpoint runs only with its own code, which is on
no package index, contains transformers 4.15's BERT and does not import with transformers 5; no library has taken it up.
"""

from collections.abc import Sequence
from pathlib import Path

from spasemsr.backends.grounding.spec import VocabularyTaggerSpec
from spasemsr.backends.networks.answers import object_names, read_names
from spasemsr.backends.protocols import Identity, Tag
from spasemsr.errors import UserError
from spasemsr.hashing import fingerprint
from spasemsr.pixels import ImageU8


class VocabularyTagger:
    """All names of the list, each with score 1."""

    def __init__(self, spec: VocabularyTaggerSpec) -> None:
        self._names = object_names() if spec.names is None else _names_in(Path(spec.names))
        self.identity = Identity("vocabulary", 1, weights_sha256=fingerprint(list(self._names)))

    def tag(self, images: Sequence[ImageU8]) -> list[list[Tag]]:
        """The same tags for every image."""
        return [[Tag(name, 1.0) for name in self._names] for _ in images]


def _names_in(path: Path) -> tuple[str, ...]:
    try:
        return read_names(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of names: {error}.", "Correct `names` in params.yaml."
        ) from None
