"""What names a training run."""

import pytest

from pipeline.stages.train import run_id
from spasemsr.config import load_params
from spasemsr.methods import method
from tests.worlds import ROOT

(METHOD,) = load_params(ROOT / "params.yaml").methods[:1]


def named(**changes) -> str:
    params = load_params(ROOT / "params.yaml")
    train = params.active.train.model_copy(update={"init": None, **changes})
    params = params.model_copy(update={params.profile: params.active.model_copy(update={"train": train})})
    config = method(METHOD).describe(params.ingredients(METHOD), {"lr": "0" * 64})
    return run_id(params, config)


@pytest.mark.parametrize(
    "change",
    [{"accumulate": 2}, {"gradient_checkpointing": True}, {"compile": True}, {"save_every": 7}, {"log_every": 3}],
    ids=lambda change: next(iter(change)),
)
def test_a_run_goes_on_with_other_memory_and_other_logs(change):
    assert named(**change) == named()


@pytest.mark.parametrize("change", [{"lr": 1e-5}, {"steps": 7}, {"precision": "bf16"}, {"optimizer": "adamw8bit"}])
def test_whatever_changes_the_weights_starts_another_run(change):
    assert named(**change) != named()
