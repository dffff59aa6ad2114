"""What one training changes against another, image by image."""

import math

import pytest

from pipeline.tools import experiment, paired, recipes
from spasemsr.errors import UserError
from spasemsr.evaluation.scores import Row, ScoreTable


def test_differences_are_paired_by_image_and_drawn_over_photographs_and_seeds():
    keys = [f"{index:016x}" for index in range(12)]

    def table(values: list[float]) -> ScoreTable:
        rows = [Row("val", key, "spasemsr", {"psnr": value}) for key, value in zip(keys, values, strict=True)]
        return ScoreTable("val", ("psnr",), ("spasemsr",), tuple(rows))

    hard = [20.0 + index for index in range(12)]  # images differ far more than trainings do
    less = [[value - 0.1 - 0.001 * index for index, value in enumerate(hard)], [value - 0.3 for value in hard]]
    without = dict(enumerate(table(values) for values in less))
    (line,) = paired.lines({"Ours": dict.fromkeys(without, table(hard)), "w/o": without}, "spasemsr")
    assert line.startswith("w/o minus Ours: psnr -0.2028 [-0.3000, -0.10")
    assert line.endswith("by seed -0.1055 -0.3000, 12 images")
    one = paired.interval([{key: float(index % 2) for index, key in enumerate(keys)}])
    assert one is not None and 0.2 < one[0] < 0.3 and 0.7 < one[1] < 0.8  # a share of 1/2 in twelve: +- 0.28
    assert paired.interval([{keys[0]: 1.0}]) is None


def test_means_and_intervals_are_of_the_images_that_have_a_value_everywhere():
    """NIQE of a flat result has none: what one training leaves out is left out of the others, and of the interval."""

    def table(*values: float) -> ScoreTable:
        rows = [Row("val", key, "spasemsr", {"niqe": value}) for key, value in zip("abc", values, strict=True)]
        return ScoreTable("val", ("niqe",), ("spasemsr",), tuple(rows))

    scores = {
        "Ours": {0: table(5.0, 5.0, 5.0), 1: table(5.0, 5.0, 5.0)},
        "w/o": {0: table(6.0, 6.0, 90.0), 1: table(7.0, 7.0, math.nan)},
    }
    (line,) = paired.lines(scores, "spasemsr")
    assert line == "w/o minus Ours: niqe +1.5000 [+1.0000, +2.0000], by seed +1.0000 +2.0000, 2 images"
    (line,) = paired.lines(scores | {"w/o": {0: table(*[math.nan] * 3)}}, "spasemsr")
    assert line == "w/o minus Ours: niqe has no value on any image"


def test_variants_are_compared_with_the_whole_method_seed_by_seed(monkeypatch):
    """An experiment that failed leaves its seed out, on both sides."""

    def table(value: float) -> ScoreTable:
        return ScoreTable("val", ("psnr",), ("spasemsr",), (Row("val", "a", "spasemsr", {"psnr": value}),))

    there = {
        ("Ours", None): 20.0, ("Ours", 7): 30.0, ("Ours", 8): 40.0, ("w/o-vae", 7): 29.0, ("w/o-vae", 8): 38.0,
        ("w/o-spatial", 9): 10.0,
    }  # fmt: skip
    chosen = [
        recipes.Recipe(f"{row}-{seed}", {} if seed is None else {"seed": seed}, "spasemsr", row)
        for seed in (None, 7, 8, 9)
        for row in ("Ours", "w/o-vae", "w/o-spatial")
    ]
    scores = {f"{row}-{seed}": table(value) for (row, seed), value in there.items()}
    monkeypatch.setattr(experiment, "_scores", lambda name, _: scores.get(name))
    assert list(experiment.compared(chosen)) == [
        "w/o-vae minus Ours: psnr -1.5000, by seed -1.0000 -2.0000, 1 images",
        "w/o-spatial minus Ours: no two trainings with the same seed are there",
    ]


def test_experiments_are_compared_by_every_score_that_both_have(monkeypatch):
    """A constraint that is off has no error; other images, or no scores, are refused."""

    def table(shift: float, keys: str = "abc", **more: float) -> ScoreTable:
        rows = [Row("val", key, "spasemsr", {"psnr": shift + place} | more) for place, key in enumerate(keys)]
        return ScoreTable("val", ("psnr", *more), ("spasemsr",), tuple(rows))

    there = {name: table(20.0, structure_error=0.5) for name in ("with", "again")}
    there |= {"without": table(21.0), "other": table(9.0, "abd"), "none": None}
    monkeypatch.setattr(experiment, "_scores", lambda name, _: there[name])
    (line,) = experiment.compare(["with"], ["without"], "spasemsr")
    assert line == "without minus with: psnr +1.0000 [+1.0000, +1.0000], 3 images"
    assert [line.split()[3] for line in experiment.compare(["with"], ["again"], "spasemsr")] == [
        "psnr",
        "structure_error",
    ]
    for after, word in (
        (["with"], "Named twice: with"),
        (["other"], "different images"),
        (["none"], "in none"),
        (["without"] * 2, "Named twice: without"),
        (["without", "again"], "1 before, 2 after"),
    ):
        with pytest.raises(UserError, match=word):
            list(experiment.compare(["with"], after, "spasemsr"))
