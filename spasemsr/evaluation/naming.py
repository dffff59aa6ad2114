"""Names of results -> keys, and what to do where the keys of results and hr disagree.

Codes name their results differently: `a_out` (Real-ESRGAN), `a_0` (SUPIR, DiffBIR: one number for each sample), `a_x4`,
`a-SR`, and RealSR's hr is `a_HR` where lr is `a_LR4`. No ending is taken off unasked, since `a_0` may be a picture of
its own; but where one ending explains the difference, the message says which.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence

_RUNS = 5  # endings of one picture's results that are listed


def without(stem: str, endings: Sequence[str]) -> str:
    """A stem less these endings, each taken off once, wherever it comes: `a_LR4_out` less `_out`, `_LR4` is `a`."""
    left = sorted({ending for ending in endings if ending}, key=len, reverse=True)
    while found := next((ending for ending in left if stem.endswith(ending) and stem != ending), ""):
        left.remove(found)
        stem = stem.removesuffix(found)
    return stem


def advice(hr: Collection[str], results: Collection[str]) -> str:
    """A sentence on how to make the keys of results those of hr, "" where the names suggest nothing."""
    missing, extra = set(hr) - set(results), set(results) - set(hr)
    whole = {ending: keys for ending, keys in _endings(missing, extra).items() if 2 * len(keys) > len(missing)}
    if len(whole) > 1:
        listed = ", ".join(sorted(whole)[:_RUNS])
        return (
            f"There are several results of one picture, with the endings {listed}: put those of one ending into a "
            f"folder of its own, score it with {_option(min(whole))}, then the next."
        )
    for ending, keys in whole.items():
        return f"{_option(ending)} takes {ending} off the names of {len(keys)} results."
    for ending, keys in _endings(extra, missing).items():
        if 2 * len(keys) > len(extra):
            return f"{_option(ending)} takes {ending} off the names of {len(keys)} hr."
    for ours, theirs in _ending_pairs(hr, results):
        return f"{_option(ours)} {_option(theirs)} takes these endings off the names of hr and of the results."
    for difference, form in (("upper and lower case", str.casefold), ("leading zeros", lambda key: key.lstrip("0"))):
        if len({form(key) for key in hr}) == len(hr) and {form(key) for key in results} == {form(key) for key in hr}:
            return f"They differ in {difference} alone: rename the files of one folder."
    return ""


def _endings(short: set[str], long: set[str]) -> dict[str, set[str]]:
    """Ending -> the keys of `short` that with it are in `long`; of each long key the longest short one counts.

    An ending of one name alone begins with a sign, as `_out`: `bb` is another picture than `b`.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for key in long:
        cuts = range(len(key) - 1, 0, -1)
        cut = next((cut for cut in cuts if key[:cut] in short and not key[cut].isdigit()), 0)
        if cut:
            found[key[cut:]].add(key[:cut])
    sure = {ending: keys for ending, keys in found.items() if len(keys) > 1 or not ending[0].isalnum()}
    return dict(sorted(sure.items(), key=lambda item: (-len(item[1]), item[0])))


def _ending_pairs(hr: Collection[str], results: Collection[str]) -> Iterator[tuple[str, str]]:
    """An ending that all hr and one that all results have, without which each result has its hr; `_HR` before `HR`."""
    if min(len(hr), len(results)) < 2:  # of one name any part might be its ending
        return
    candidates = [(ours, theirs) for ours in _common(hr) for theirs in _common(results)]
    candidates.sort(key=lambda pair: (sum(ending[0].isalnum() for ending in pair), len(pair[0] + pair[1])))
    for ours, theirs in candidates:
        truths = Counter(without(key, (ours, theirs)) for key in hr)
        found = Counter(without(key, (ours, theirs)) for key in results)
        if max(truths.values()) == max(found.values()) == 1 and found.keys() <= truths.keys():
            yield ours, theirs


def _common(keys: Collection[str]) -> list[str]:
    """Every ending that all keys have and that does not begin with a digit."""
    first, last = min(backwards := [key[::-1] for key in keys]), max(backwards)
    same = next((place for place, letter in enumerate(first) if last[place : place + 1] != letter), len(first))
    longest = first[:same][::-1]
    return [longest[cut:] for cut in range(len(longest)) if not longest[cut].isdigit()]


def _option(ending: str) -> str:
    """How the ending is given on the command line."""
    return f"--strip={ending}" if ending.startswith("-") else f"--strip {ending}"
