"""What one training changes against another: differences of every metric image by image, over photographs and seeds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spasemsr.evaluation.intervals import CONFIDENCE, photograph_of
from spasemsr.evaluation.scores import ScoreTable
from spasemsr.randomness import generator

RESAMPLES = 10_000
_SEED = 0

Values = Mapping[str, float]  # by key


def lines(scores: Mapping[str, Mapping[Any, ScoreTable]], method: str) -> Iterator[str]:
    """A line for each row but the first: its scores minus the first row's, metric by metric, with 95 % intervals.

    `scores` are tables of a split by row and seed; what is compared are the seeds that both rows have, on the images on
    which the metric has a value in all of these trainings. Where there are several, the mean difference of each stands
    behind the interval.
    """
    (whole, first), *others = scores.items()
    for row, tables in others:
        pairs = [(one, tables[seed]) for seed, one in first.items() if seed in tables]
        if not pairs:
            yield f"{row} minus {whole}: no two trainings with the same seed are there"
            continue
        for metric in pairs[0][0].metrics:
            if not all(table.has(method, metric) for pair in pairs for table in pair):
                continue  # a constraint that is off has no error
            values = [(one.values(method, metric), two.values(method, metric)) for one, two in pairs]
            keys = sorted(set.intersection(*(set(each) for pair in values for each in pair)))
            if not keys:
                yield f"{row} minus {whole}: {metric} has no value on any image"
                continue
            gains = [{key: two[key] - one[key] for key in keys} for one, two in values]
            means = [sum(gain.values()) / len(gain) for gain in gains]
            text = f"{row} minus {whole}: {metric} {sum(means) / len(means):+.4f}"
            if bounds := interval(gains, metric):
                text += f" [{bounds[0]:+.4f}, {bounds[1]:+.4f}]"
            if len(means) > 1:
                text += f", by seed {' '.join(f'{mean:+.4f}' for mean in means)}"
            yield f"{text}, {len(keys)} images"


def interval(gains: Sequence[Values], *names: str) -> tuple[float, float] | None:
    """Percentile bootstrap 95 % interval of the mean difference; None for fewer than two photographs.

    `gains` are those of each training, all with the same keys. Photographs are drawn with all their images, and
    trainings, one for each seed, are drawn too: what is said of a variant is to hold for another training of it. Two or
    three seeds give a rough idea of that alone.
    """
    keys = sorted(gains[0])
    photographs = sorted({photograph_of(key) for key in keys})
    if len(photographs) < 2:
        return None
    place = {photograph: index for index, photograph in enumerate(photographs)}
    sums, counts = np.zeros((len(gains), len(photographs))), np.zeros(len(photographs))
    for key in keys:
        counts[place[photograph_of(key)]] += 1
        sums[:, place[photograph_of(key)]] += [gain[key] for gain in gains]
    random, (seeds, groups) = generator(_SEED, "paired", *names), sums.shape
    trainings = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    drawn = random.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    means = ((trainings @ sums) * drawn).sum(1) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
