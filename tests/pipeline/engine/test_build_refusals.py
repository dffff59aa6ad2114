"""What the engine refuses: missing inputs, altered tars, results that break the schema."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.engine.account import backend_name, read_accounts
from pipeline.engine.build import SampleError
from pipeline.engine.units import Unit, units_of
from spasemsr.data.columns import HR, LATENTS, LR, OBJECTS, common_columns
from spasemsr.data.job import InputRef
from spasemsr.errors import UserError
from tests.worlds.toy_columns import NOTE, diary, entries, patches_of, photographs, toy_job

PATCHES = patches_of(photographs(8))


def test_a_missing_input_key_is_named_with_the_stage_that_rebuilds_it(toy):
    toy.hr(PATCHES[:-2])
    with pytest.raises(UserError) as error:
        toy.lr(PATCHES)
    assert re.search(
        r"column 'hr' lacks 2 of \d+ keys of split '\w+' \(first: [0-9a-f]{16}_\d{5}_\d{5}\)", error.value.what
    )
    assert error.value.remedy == "Run: dvc repro ingest"


def test_a_missing_or_altered_input_tar_is_named_before_any_work(toy, tmp_path):
    tar = next((toy.shards / "hr").glob("train-*.tar"))
    data = tar.read_bytes()
    altered = bytearray(data)
    altered[700] ^= 1
    for content, words in ((bytes(altered), "was altered"), (data[:-512], "bytes"), (None, "is missing")):
        tar.unlink()
        if content is not None:
            tar.write_bytes(content)
        with pytest.raises(UserError) as error:
            toy.note(PATCHES, diary=tmp_path / "diary")
        assert tar.name in error.value.what and words in error.value.what
        assert error.value.remedy == "Run: dvc repro ingest"
    assert diary(tmp_path / "diary") == []


@pytest.mark.parametrize(
    "result, words",
    [
        ({}, "returned nothing, expected total.npy, note.json"),
        ({"total.npy": np.zeros(3, np.float32), "note.json": {}}, "expected dtype float16, got float32"),
        ({"total.npy": np.array([np.nan], np.float16), "note.json": {}}, "NaN or infinity"),
        ({"total.npy": np.zeros((1, 1), np.float16), "note.json": {}}, "expected shape (any), got (1, 1)"),
        ({"total.npy": np.zeros(3, np.float16), "note.json": {"x": float("nan")}}, "Out of range float values"),
    ],
)
def test_a_result_that_breaks_the_schema_is_not_stored(toy, result, words):
    before = entries(toy)
    with pytest.raises(SampleError) as error:
        toy.build(toy_job(NOTE, partial(_Fixed, result), (InputRef(HR),), kind="fixed"), PATCHES)
    assert words in str(error.value)
    assert entries(toy) == before


class _Fixed:
    def __init__(self, result):
        self._result = result

    def __call__(self, samples):
        return [self._result for _ in samples]


def test_units_follow_the_schema():
    train, val = (next(p for p in PATCHES if p.split == split) for split in ("train", "val"))
    assert units_of(HR, [train, val]) == [Unit(p, None) for p in sorted([train, val])]
    lr = units_of(LR, [train, val], variants=3)
    assert [u.variant for u in lr if u.patch == train] == [0, 1, 2] and [u.variant for u in lr if u.patch == val] == [0]
    assert units_of(common_columns({"lr"})["restored"], [train, val]) == [Unit(val, 0)]
    assert units_of(common_columns({"restored"})["restored"], [train, val], variants=3) == lr
    assert units_of(LATENTS, [train, val]) == [Unit(train, None)]
    assert {u.variant for u in units_of(OBJECTS, [train, val])} == {None}


def test_backend_names():
    assert backend_name({"kind": "crop", "version": 2}) == "crop@2"
    assert backend_name({"models": [{"kind": "a", "version": 1}, {"kind": "b", "version": 2}]}) == "a@1+b@2"


def test_accounts_tell_other_processes_what_was_done(toy):
    toy.note(PATCHES)
    accounts = {account.column: account for account in read_accounts(toy.cache.root, Path.cwd())}
    assert set(accounts) == {"hr", "lr", "features/note"}
    note = accounts["features/note"]
    assert (note.stage, note.state, note.total, note.computed, note.executor) == ("note", "done", 16, 16, "serial")
    assert note.digest == json.loads((toy.shards / NOTE.name / "column.json").read_text())["digest"]
    assert note.tars and note.backend_seconds >= 0 and note.identity == {"kind": "note", "version": 1}
    assert list(read_accounts(toy.cache.root, toy.shards)) == []
