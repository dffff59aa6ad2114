"""What names a training run."""

import pytest
import torch

from pipeline.stages import train
from pipeline.stages.train import run_id
from spasemsr.config import load_params
from spasemsr.methods import method
from tests.worlds import ROOT

(METHOD,) = load_params(ROOT / "params.yaml").methods[:1]


def named(**changes) -> str:
    params = load_params(ROOT / "params.yaml")
    spec = params.active.train.model_copy(update={"init": None, **changes})
    params = params.model_copy(update={params.profile: params.active.model_copy(update={"train": spec})})
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


def test_every_process_takes_its_own_gpu_before_a_network_is_built(monkeypatch, tmp_path):
    """Else each of eight processes opens a context on the first GPU."""
    happened: list[object] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "set_device", happened.append)
    params = load_params(ROOT / "params.yaml")
    config = method(METHOD).describe(params.ingredients(METHOD), {"lr": "0" * 64})

    class Built(Exception):
        pass

    def build(config):
        happened.append("built")
        raise Built

    face = type("Face", (), {"build": staticmethod(build)})
    monkeypatch.setattr(train, "method", lambda name: face)
    with pytest.raises(Built):
        train._train(params, config, None, tmp_path)
    assert happened == [3, "built"]
