"""The shipped foundation profile on tiny checkpoints in the real layouts."""

import copy
from pathlib import Path

import pytest
import yaml

from spasemsr.config import Params, parse_params
from tests.worlds import ROOT
from tests.worlds.tiny_checkpoints import foundation_params, write_all

SHIPPED = ROOT / "params.yaml"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    """Written once; a test that harms one works on a copy."""
    return write_all(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def tiny(checkpoints, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPASEMSR_MODELS", str(tmp_path_factory.mktemp("models")))
        yield checkpoints


@pytest.fixture(scope="module")
def params(tiny) -> Params:
    """The shipped foundation profile, pointed at the tiny checkpoints."""
    raw = copy.deepcopy(yaml.safe_load(SHIPPED.read_text()))
    raw["profile"] = "foundation"
    for key, value in foundation_params(tiny).items():
        *parents, last = key.split(".")
        place = raw
        for part in parents:
            place = place[part]
        assert last in place, f"{key} overrides nothing"
        place[last] = value
    return parse_params(raw, "params.yaml")


@pytest.fixture(scope="module")
def profile(params):
    return params.active
