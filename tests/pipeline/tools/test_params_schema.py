"""What an editor is given accepts the shipped file and sees what is wrong where it is."""

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.tools.params_schema import params_schema
from tests.worlds import ROOT


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(params_schema())


def test_the_shipped_file_is_valid(validator):
    assert not list(validator.iter_errors(yaml.safe_load((ROOT / "params.yaml").read_text())))


@pytest.mark.parametrize(
    ("key", "value", "marked"),
    [
        ("lambda", 7, ["lambda"]),
        ("embedded.restore.kind", "magic", ["embedded", "restore"]),
        ("embedded.train.step", 3, ["embedded", "train"]),
        ("seeds", 1, []),
    ],
)
def test_what_params_refuse_is_marked_where_it_is(validator, key, value, marked):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    place, (*parents, last) = raw, key.split(".")
    for part in parents:
        place = place[part]
    place[last] = value
    (error,) = validator.iter_errors(raw)
    assert list(error.absolute_path) == marked
