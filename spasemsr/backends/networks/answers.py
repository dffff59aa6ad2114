"""From what a language model says to a caption or to tags: one line, capped, about quality and not about content.

A caption is cut into clauses. Clauses that name things (words of our object list) are kept until the allowance of such
words is used up, later ones are left out; if none is left, the first stays, because an empty caption would claim that
nothing is wrong with the image. Whatever is changed is counted and logged.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path

from spasemsr.errors import UserError

log = logging.getLogger(__name__)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_CLAUSE = re.compile(r"[^,.;:!?]+[,.;:!?]*")
_BULLET = re.compile(r"^[\s\-*•]*(?:\d{1,2}[.)]\s*)?(?:(?:a|an|the|some|several|two|three|four|many)\s+)*")
_TAG = re.compile(r"[a-z0-9][a-z0-9 '\-]{0,39}")
_MAX_TAG_WORDS = 4
_MAX_CHARACTERS = 1000  # 60 words are about 360
# On our list, but said of images too, or of anything: "can be seen", "salt-and-pepper noise", "depth of field".
_OF_QUALITY = frozenset(
    """bear can cherry face field fog foil glass key lime mask mosaic orange paper peach pepper plum rain ring rose saw
    scale smoke snow star tile wave well""".split()
)


@lru_cache(maxsize=1)
def object_names() -> tuple[str, ...]:
    """The names of common objects, materials and places in `object_names.txt`."""
    text = resources.files("spasemsr.backends.networks").joinpath("object_names.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:-1])


@lru_cache(maxsize=1)
def content_words() -> frozenset[str]:
    """Single words that name things, and their plurals."""
    singles = {name for name in object_names() if " " not in name} - _OF_QUALITY
    return frozenset(singles | {f"{name}s" for name in singles} | {f"{name}es" for name in singles})


class CaptionPolicy:
    """Cleans captions; `counts` says how many came and what was changed in them."""

    def __init__(self, max_words: int, max_content_words: int) -> None:
        self._max_words, self._max_content_words = max_words, max_content_words
        self.counts: Counter[str] = Counter()

    def clean(self, answer: str) -> str:
        """One line of at most `max_words` words. Raises UserError for an answer without a word."""
        line = one_line(answer)
        changed = []
        if line != answer.strip():
            changed.append("control characters")
        line, cut = self._without_content(line)
        changed += cut
        words = line.split()
        if len(words) > self._max_words or len(line) > _MAX_CHARACTERS:
            line = " ".join(words[: self._max_words])[:_MAX_CHARACTERS].rstrip(" ,;:")
            changed.append("too long")
        if not _WORD.search(line):
            self.counts["empty"] += 1
            raise UserError(
                f"The captioner said nothing about this image (answer: {answer[:80]!r}).",
                "An empty caption is never stored. Ask another question or raise max_new_tokens in params.yaml.",
            )
        self.counts["captions"] += 1
        self.counts.update(changed)
        self.counts["changed"] += bool(changed)
        if changed and _round(self.counts["changed"]):
            log.info("captions: %s", ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items())))
        return line

    def _without_content(self, line: str) -> tuple[str, list[str]]:
        clauses = [clause for clause in _CLAUSE.findall(line) if clause.strip()]
        left, kept = self._max_content_words, []
        for clause in clauses:
            named = sum(word in content_words() for word in _WORD.findall(clause.lower()))
            if named <= left:
                kept.append(clause)
                left -= named
        if len(kept) == len(clauses):
            return line, []
        if not kept:
            return clauses[0].strip(), ["content only"]
        return "".join(kept).strip().rstrip(",;:"), ["content left out"]


def one_line(text: str) -> str:
    """Control characters and line ends become single spaces."""
    return " ".join(_CONTROL.sub(" ", text).split())


def tags_of(answer: str, max_tags: int) -> list[str]:
    """A list in prose, commas or lines -> distinct lower-case names, in the order said; what is no name is left out."""
    found: list[str] = []
    for part in re.split(r"[,;.\n]|\band\b", answer.lower()):
        name = _BULLET.sub("", one_line(part)).strip(" -'\"")
        fits = _TAG.fullmatch(name) and len(name.split()) <= _MAX_TAG_WORDS and any(c.isalpha() for c in name)
        if fits and name not in found:
            found.append(name)
    return found[:max_tags]


def read_names(lines: Iterable[str]) -> tuple[str, ...]:
    """Names from a list of the user's, one per line; raises UserError for a line that is no name."""
    names = [one_line(line).lower() for line in lines]
    names = list(dict.fromkeys(name for name in names if name and not name.startswith("#")))
    for name in names:
        if not _TAG.fullmatch(name):
            raise UserError(f"{name[:60]!r} is no name of a thing.", "Letters, digits, spaces, - and ', at most 40.")
    if not names:
        raise UserError("The list of names is empty.", "Give one name per line.")
    return tuple(names)


def names_in(path: str | None) -> tuple[str, ...]:
    """The names of a file, one per line; without a file those of `object_names.txt`. Raises UserError."""
    if path is None:
        return object_names()
    try:
        return read_names(Path(path).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of names: {error}.", "Correct `names` in params.yaml."
        ) from None


def _round(count: int) -> bool:
    """1, 2, 4, 8, ...: often at first, rarely later."""
    return count & (count - 1) == 0
