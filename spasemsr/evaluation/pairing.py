"""Two folders, results and hr -> the pairs that are scored, decided before the first score is computed.

By default everything must pair: a key without its partner, a file that cannot be read, a pair of two sizes and one that
is too small for a metric are errors, all named at once. Asked for what there is (`partial`), they are left out, each by
name with its reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from spasemsr.determinism import cores, single_threaded
from spasemsr.errors import UserError
from spasemsr.evaluation.lookalike import Thumbnail, strangers, thumbnail
from spasemsr.evaluation.metrics import Metric
from spasemsr.evaluation.naming import advice
from spasemsr.evaluation.scores import check_keys
from spasemsr.images.flat import Decoded
from spasemsr.images.names import shown
from spasemsr.images.stored import read_scored

_SHOWN = 10  # of files that cannot be scored
_CUT = 8  # px: a difference of sizes below it comes of rounding, a larger one of another picture


@dataclass(frozen=True)
class Pairs:
    """Result and hr by key (hr None where there is none), why others are left out, and what is odd about a pair."""

    files: dict[str, tuple[Path, Path | None]]
    left_out: dict[str, str]
    strange: dict[str, str]


def read_pair(result: Path, hr: Path | None, cut: bool) -> tuple[Decoded, Decoded]:
    """Both pictures, of one size; without hr the result twice.

    `cut`: where sizes differ by less than 8 px a side, rows below and columns on the right that only one has are cut
    off it, and `cut` is among its treatments. Raises UserError for what cannot be read and for other sizes.
    """
    one = read_scored(result)
    if hr is None:
        return one, one
    other = read_scored(hr)
    (height, width), (rows, columns) = one.pixels.shape[:2], other.pixels.shape[:2]
    if (height, width) == (rows, columns):
        return one, other
    near = max(abs(height - rows), abs(width - columns)) < _CUT
    if not (cut and near):
        what = f"{shown(result)} has {width}x{height} pixels, its hr {columns}x{rows}."
        way = "--cut, without --set, cuts off what only one of them has." if near else "Nothing is resized here."
        raise UserError(what, f"Give results of hr's size. {way}")
    return _cut(one, min(height, rows), min(width, columns)), _cut(other, min(height, rows), min(width, columns))


def pair(
    method: str,
    results: Mapping[str, Path],
    hr: Mapping[str, Path] | None,
    metrics: Sequence[Metric],
    partial: bool = False,
    cut: bool = False,
    workers: int | None = None,
) -> Pairs:
    """Read everything once and say what can be scored.

    Raises UserError as the module says, where nothing is left, and where most results show the hr of other keys.
    """
    left_out = {}
    if hr is not None:
        hint = advice(hr, results)
        if partial:
            left_out = {key: "has no result" for key in hr if key not in results}
            left_out |= {key: "has no hr" for key in results if key not in hr}
            if len(left_out) == len({*hr, *results}):
                raise UserError(f"No result of {method} has the key of an hr.", hint or "Rename the files.")
        else:
            there = len(results.keys() & hr.keys())
            other = (
                f"--partial, without --set, scores the {there} that have a partner." if there else "Rename the files."
            )
            check_keys(hr, list(results), f"The folder of {method}", f" {hint or other}")
    files = {key: (path, hr[key] if hr else None) for key, path in results.items() if key not in left_out}

    def look(key: str) -> tuple[Thumbnail, Thumbnail] | UserError:
        try:
            one, other = read_pair(*files[key], cut)
            for metric in metrics:
                metric.smallest.require(f"{metric.name}: {shown(files[key][0])}", *one.pixels.shape[:2])
        except UserError as error:
            return error
        return thumbnail(one.pixels), thumbnail(other.pixels)

    with single_threaded(), ThreadPoolExecutor(workers or cores()) as pool:
        looks = dict(zip(files, pool.map(look, files), strict=True))
    bad = {key: found for key, found in looks.items() if isinstance(found, UserError)}
    if bad and (not partial or len(bad) == len(files)):
        less = not partial and len(bad) < len(files)
        raise refusal(bad.values(), "Or --partial, without --set, leaves them out and says so." if less else "")
    good = {key: found for key, found in looks.items() if not isinstance(found, UserError)}
    odd = strangers({key: one for key, (one, _) in good.items()}, {key: other for key, (_, other) in good.items()})
    exchanged = [f"{key} like that of {other}" for key, other in odd.items() if other]
    if 2 * len(exchanged) > len(good):
        what = (
            f"{len(exchanged)} of {len(good)} results look like the hr of other keys ({', '.join(exchanged[:_SHOWN])})."
        )
        raise UserError(what, "Name each result as its hr: whatever wrote them numbered them in another order.")
    said = {
        key: f"looks like the hr of {other}" if other else "does not look like its hr" for key, other in odd.items()
    }
    return Pairs({key: files[key] for key in good}, left_out | {key: error.what for key, error in bad.items()}, said)


def refusal(errors: Iterable[UserError], more_to_do: str = "") -> UserError:
    """One error that names them all, and what else there is to do about them than each says."""
    errors = list(errors)
    more = f"\nand {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    remedies = dict.fromkeys(error.remedy for error in errors)
    return UserError(
        "\n".join(error.what for error in errors[:_SHOWN]) + more, " ".join([*remedies, more_to_do]).strip()
    )


def _cut(picture: Decoded, height: int, width: int) -> Decoded:
    if picture.pixels.shape[:2] == (height, width):
        return picture
    return replace(picture, pixels=picture.pixels[:height, :width], treatments=(*picture.treatments, "cut"))
