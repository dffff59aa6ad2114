"""The score table, its files, and the intervals: defects of published evaluation scripts are cases here."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.errors import UserError
from spasemsr.evaluation.intervals import by_turns, interval, photograph_of, sign_flip_p, summarize
from spasemsr.evaluation.metrics import build_metrics
from spasemsr.evaluation.scores import (
    Row,
    ScoreTable,
    check_keys,
    means,
    merge,
    read_per_image,
    score_image,
    write_metrics,
    write_per_image,
    write_tradeoff,
)
from spasemsr.evaluation.testsets import FAMILY_A_IMAGES, SETS
from tests.worlds.sample_report import photograph

METRICS = build_metrics(["psnr", "ssim", "niqe"])


def key(photograph_number: int, patch: int = 0) -> str:
    return f"{photograph_number:016x}_{patch:05d}_00000"


def table(values: dict[str, list[float]], metric: str = "psnr", split: str = "val") -> ScoreTable:
    """A table of one metric: method -> its values at key(0), key(1), ..."""
    rows = [Row(split, key(i), m, {metric: v}) for m, column in values.items() for i, v in enumerate(column)]
    return ScoreTable(split, (metric,), tuple(values), tuple(rows))


def test_files_round_trip_and_are_sorted(tmp_path):
    hr = photograph("chelsea.png")
    flat = np.full_like(hr, 7)
    rows = [
        score_image("val", key(number), method, restored, hr, METRICS)
        for number in (2, 1)
        for method, restored in (("spasemsr", hr), ("bicubic", flat if number == 1 else hr))
    ]
    rows += [score_image("val", key(number), "hr", hr, hr, METRICS[2:]) for number in (1, 2)]
    scored = ScoreTable("val", ("psnr", "ssim", "niqe"), ("spasemsr", "bicubic", "hr"), tuple(rows))
    write_per_image(tmp_path / "per_image.csv", [scored])
    lines = (tmp_path / "per_image.csv").read_text().splitlines()
    assert lines[0] == "split,key,method,psnr,ssim,niqe,note"
    assert [line.split(",")[1:3] for line in lines[1:]] == [
        [key(number), method] for number in (1, 2) for method in ("spasemsr", "bicubic", "hr")
    ]
    assert lines[2].endswith(",nan,niqe: 0 of 4 blocks have any structure; NIQE needs two")
    assert f"{key(1)},hr,,," in lines[3]  # ground truth has no PSNR: an empty cell, not a zero
    (read,) = read_per_image(tmp_path / "per_image.csv")
    assert means([read]) == means([scored])
    assert (read.methods, read.metrics, read.keys_sha256) == (scored.methods, scored.metrics, scored.keys_sha256)
    write_per_image(tmp_path / "again.csv", [read])
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "per_image.csv").read_bytes()


def test_an_image_without_a_value_leaves_the_means_of_all_methods_and_is_named():
    scored = table({"spasemsr": [4.0, 6.0, 8.0], "bicubic": [1.0, math.nan, 3.0]}, "niqe")
    assert means([scored]) == {"val": {"spasemsr": {"niqe": 6.0}, "bicubic": {"niqe": 2.0}}}
    summary = summarize([scored], METRICS, seed=0)
    assert [(row["n"], list(row["undefined"])) for row in summary["rows"]] == [(2, [key(1)])] * 2
    assert "bicubic" in summary["rows"][0]["undefined"][key(1)]


def test_a_metric_that_has_no_value_anywhere_is_null_not_nan(tmp_path):
    scored = table({"spasemsr": [math.nan, math.nan]}, "niqe")
    row = summarize([scored], METRICS, seed=0)["rows"][0]
    assert (row["mean"], row["low"], row["n"]) == (None, None, 0)
    write_metrics(tmp_path / "metrics.json", [scored], {"psnr": None})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"val": {"spasemsr": {}}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a", "b"], "lacks 1 of 3 keys (c)"),
        (["a", "b", "c", "d"], "has 1 key too many (d)"),
        (["a", "b", "d"], "lacks 1 of 3 keys (c) and has 1 key too many (d)"),
        (["a", "b", "c", "d", "e"], "has 2 keys too many (d, e)"),
        (["a", "b", "b", "c"], "repeats 1 of 3 keys (b)"),
        ([], "lacks 3 of 3 keys (a, b, c)"),
    ],
)
def test_keys_that_do_not_pair_are_named(given, message):
    with pytest.raises(UserError) as error:
        check_keys(["a", "b", "c"], given, "The folder")
    assert error.value.what == f"The folder {message}."


def test_a_failed_image_cannot_vanish_from_the_mean():
    full = table({"spasemsr": [1.0, 2.0], "bicubic": [1.0, 2.0]})
    with pytest.raises(UserError, match=f"'bicubic' of split 'val' lacks 1 of 2 keys \\({key(1)}\\)"):
        ScoreTable("val", ("psnr",), full.methods, full.rows[:-1])


def test_pairs_are_made_by_key_not_by_position():
    scored = table({"spasemsr": [10.0, 20.0, 30.0], "bicubic": [9.0, 19.0, 29.0]})
    shuffled = ScoreTable("val", scored.metrics, scored.methods, scored.rows[::-1])
    assert summarize([shuffled], METRICS, seed=3) == summarize([scored], METRICS, seed=3)
    difference = summarize([scored], METRICS, seed=3)["differences"][0]
    assert (difference["mean"], difference["low"], difference["high"]) == (1.0, 1.0, 1.0)


def test_errors_of_a_metric_name_method_and_key():
    hr = photograph("chelsea.png", side=40)
    with pytest.raises(UserError, match=f"spasemsr, {key(1)}: psnr: restored is 20x40 but hr is 40x40"):
        score_image("val", key(1), "spasemsr", hr[:, :20], hr, METRICS[:1])


def test_tables_of_several_methods_merge_when_the_shared_rows_agree(tmp_path):
    ours = table({"spasemsr": [1.0, 2.0], "bicubic": [0.5, math.nan]})
    theirs = table({"seesr": [3.0, 4.0], "bicubic": [0.5, math.nan]})
    (merged,) = merge([ours, theirs])
    assert merged.methods == ("spasemsr", "seesr", "bicubic") and len(merged.rows) == 6
    with pytest.raises(UserError, match="'bicubic' was scored twice"):
        merge([ours, table({"seesr": [3.0, 4.0], "bicubic": [0.5, 0.6]})])
    with pytest.raises(UserError, match="'seesr' of split 'val' lacks 1 of 2 keys"):
        merge([ours, table({"seesr": [3.0]})])
    write_tradeoff(tmp_path / "tradeoff.csv", [merged])
    assert (tmp_path / "tradeoff.csv").read_text() == (
        "split,method,psnr,n\nval,spasemsr,1.000000,2\nval,seesr,3.000000,2\nval,bicubic,0.500000,2\n"
    )


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "split,key,method,psnr,note\nval,k,m,abc,\n", "split,key,method,psnr,note\nval,k\n"]
)
def test_an_altered_table_names_the_stage_that_writes_it(text, tmp_path):
    path = tmp_path / "per_image.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_per_image(path)
    assert "per_image.csv" in error.value.what and "dvc repro evaluate" in error.value.remedy
    with pytest.raises(UserError, match="does not exist"):
        read_per_image(tmp_path / "absent.csv")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 60, allow_nan=False), min_size=2, max_size=30), st.integers(0, 1000))
def test_intervals_hold_the_mean_and_repeat(values, seed):
    named = {key(number): value for number, value in enumerate(values)}
    low, high = interval(named, seed, "val", "psnr")
    mean = sum(values) / len(values)
    assert min(values) - 1e-9 <= low <= mean + 1e-9 and mean - 1e-9 <= high <= max(values) + 1e-9
    assert interval(dict(reversed(named.items())), seed, "val", "psnr") == (low, high)


def test_interval_of_a_known_distribution():
    random = np.random.default_rng(0)
    named = {key(number): value for number, value in enumerate(random.normal(25, 2, 400))}
    low, high = interval(named, 0, "val", "psnr")
    assert high - low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.1)  # 2 x 1.96 standard errors


def test_patches_of_one_photograph_count_as_one():
    random = np.random.default_rng(0)
    photographs = random.normal(25, 2, 20)
    patches = {key(number, patch): value for number, value in enumerate(photographs) for patch in range(10)}
    alone = {key(number): value for number, value in enumerate(photographs)}
    assert interval(patches, 0, "val") == pytest.approx(interval(alone, 0, "val"))
    assert interval({key(1, patch): 20.0 + patch for patch in range(9)}, 0, "val") is None  # one photograph
    assert photograph_of("Canon_001") == "Canon_001"


def test_crops_of_one_of_div2ks_images_count_as_one():
    """30 of each of 100: taken for 3,000 photographs, their interval would be five times too narrow."""
    random = np.random.default_rng(0)
    images = {image: random.normal(25, 2) for image in FAMILY_A_IMAGES}
    alone = interval({f"{image:04d}": value for image, value in images.items()}, 0, "val")
    crops = {key: images[int(key[:4])] for key in SETS["div2k-val-a"].keys or ()}
    assert len(crops) == 3000 and interval(crops, 0, "val") == pytest.approx(alone)
    published = {f"{image:04d}_pch_{crop:05d}": images[image] for image in images for crop in range(30)}
    assert interval(published, 0, "val") == pytest.approx(alone)
    assert photograph_of("0001_01") == "0001_01" and photograph_of("0801") == "0801"


def test_the_first_keys_by_turns_are_of_as_many_photographs_as_there_are():
    keys = [key(0, 0), key(0, 1), key(0, 2), key(1, 0), key(2, 0), key(2, 1)]
    assert by_turns(keys) == [key(0, 0), key(1, 0), key(2, 0), key(0, 1), key(2, 1), key(0, 2)]


def test_sign_flip_p_by_hand():
    assert sign_flip_p({key(i): 1.0 + i for i in range(5)}, 0) == 2 / 32  # only the two extreme patterns
    assert sign_flip_p({key(0): 1.0, key(1): -1.0}, 0) == 1.0
    assert sign_flip_p({key(0, patch): 1.0 for patch in range(9)}, 0) is None
    many = {key(i): value for i, value in enumerate(np.random.default_rng(0).normal(1, 1, 40))}
    assert sign_flip_p(many, 0) == 1 / 10_001
    none = {key(i): value for i, value in enumerate(np.random.default_rng(1).normal(0, 1, 40))}
    assert sign_flip_p(none, 0) == sign_flip_p(none, 0) > 0.05


def test_every_row_says_what_it_is():
    summary = summarize([table({"spasemsr": [1.0, 2.0], "bicubic": [0.0, 3.0]})], METRICS, seed=0)
    wanted = "metric implementation version weights colour_space crop n protocol".split()
    for row in summary["rows"]:
        assert all(row[part] not in (None, "") for part in wanted)
    assert summary["sets"][0]["n"] == 2 and len(summary["sets"][0]["keys_sha256"]) == 64
    json.dumps(summary, allow_nan=False)
