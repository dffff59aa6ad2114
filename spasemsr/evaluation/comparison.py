"""Two folders, outputs and hr -> a score table: pairs by key, a few threads, nothing skipped.

Decoding, OpenCV and numpy release the interpreter, so threads share the cores without starting processes. One thread a
picture: the numbers do not depend on how many there are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from spasemsr.determinism import cores, single_threaded
from spasemsr.errors import UserError
from spasemsr.evaluation.metrics import Metric
from spasemsr.evaluation.scores import Row, ScoreTable, check_keys, score_image
from spasemsr.images.stored import read_scored

_SHOWN = 10  # of files that cannot be scored


def score_pairs(
    split: str,
    method: str,
    outputs: Mapping[str, Path],
    hr: Mapping[str, Path] | None,
    metrics: Sequence[Metric],
    workers: int | None = None,
) -> tuple[ScoreTable, dict[str, int]]:
    """Score every output against the hr of its key; the table, and how often each treatment was applied.

    Without hr only metrics that need no reference can be asked for. Raises UserError naming missing and extra keys,
    a size that differs, and every file that cannot be scored; the same error however many threads.
    """
    if hr is not None:
        check_keys(hr, list(outputs), f"The folder of {method}", " --strip x4 takes an ending x4 off.")
    elif needy := [metric.name for metric in metrics if metric.needs_reference]:
        raise UserError(
            f"{', '.join(needy)} compare with hr, and there is none.", "Give --hr, or --metrics that need no reference."
        )

    def one(key: str) -> Row | UserError:
        try:
            output = read_scored(outputs[key])
            truth = output if hr is None else read_scored(hr[key])
        except UserError as unreadable:
            return unreadable
        row = score_image(split, key, method, output.pixels, truth.pixels, metrics)
        names = list(output.treatments) + [f"hr:{name}" for name in truth.treatments if hr is not None]
        return replace(row, note="; ".join([*names, *([row.note] if row.note else [])]))

    with single_threaded(), ThreadPoolExecutor(workers or cores()) as pool:
        pending = [pool.submit(one, key) for key in outputs]
        try:
            found = [future.result() for future in pending]
        finally:
            for future in pending:
                future.cancel()
    rows = [row for row in found if isinstance(row, Row)]
    if bad := [row for row in found if isinstance(row, UserError)]:
        more = f"\nand {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise UserError("\n".join(error.what for error in bad[:_SHOWN]) + more, bad[0].remedy)
    treatments = Counter(name for row in rows for name in row.note.split("; ") if name and " " not in name)
    return ScoreTable(split, tuple(metric.name for metric in metrics), (method,), tuple(rows)), dict(treatments)
