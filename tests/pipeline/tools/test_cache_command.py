"""`spasemsr cache prune`: what of the sample cache it deletes, and a column that is not there."""

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from spasemsr.cache import Cache
from spasemsr.errors import UserError


@pytest.fixture
def prune(monkeypatch, tmp_path):
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path / "cache"))
    for key, column in (("0" * 64, "lr"), ("1" * 64, "caption")):
        Cache().put(key, b"payload", column)
    return lambda *options: CliRunner().invoke(app, ["cache", "prune", *options])


def test_the_entries_of_one_column_are_deleted(prune):
    assert prune("--column", "lr").output.startswith("deleted 1 entries")
    assert set(Cache().stat()) == {"caption"}


def test_a_column_that_is_not_there_is_refused_with_those_that_are_before_anything_is_deleted(prune):
    refused = prune("--column", "lrr", "--max-gb", "0").exception
    assert isinstance(refused, UserError) and "'lrr'" in refused.what and "caption, lr" in refused.remedy
    assert set(Cache().stat()) == {"caption", "lr"}
