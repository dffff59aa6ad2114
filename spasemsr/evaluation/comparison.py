"""Pairs of results and hr -> a score table: a few threads, every treatment counted.

Decoding, OpenCV and numpy release the interpreter, so threads share the cores without starting processes. One thread a
picture: the numbers do not depend on how many there are.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from spasemsr.determinism import cores, single_threaded
from spasemsr.evaluation.metrics import Metric
from spasemsr.evaluation.pairing import Pairs, read_pair
from spasemsr.evaluation.scores import Row, ScoreTable, score_image


def score_pairs(
    split: str,
    method: str,
    pairs: Pairs,
    metrics: Sequence[Metric],
    cut: bool = False,
    workers: int | None = None,
) -> tuple[ScoreTable, dict[str, int]]:
    """Score every result against its hr; the table, and how often each treatment was applied.

    Without hr only metrics that need no reference can be asked for. Raises UserError for a picture that a metric is not
    defined on; the same error however many threads.
    """

    def one(key: str) -> Row:
        result_path, hr_path = pairs.files[key]
        result, hr = read_pair(result_path, hr_path, cut)
        row = score_image(split, key, method, result.pixels, hr.pixels, metrics)
        names = list(result.treatments) + [f"hr:{name}" for name in hr.treatments if hr_path is not None]
        return replace(row, note="; ".join(filter(None, [*names, pairs.strange.get(key, ""), row.note])))

    with single_threaded(), ThreadPoolExecutor(workers or cores()) as pool:
        pending = [pool.submit(one, key) for key in sorted(pairs.files)]
        try:
            rows = [future.result() for future in pending]
        finally:
            for future in pending:
                future.cancel()
    treatments = Counter(name for row in rows for name in row.note.split("; ") if name and " " not in name)
    return ScoreTable(split, tuple(metric.name for metric in metrics), (method,), tuple(rows)), dict(treatments)
