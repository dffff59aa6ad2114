"""Held samples and models on the way: the same rows however often a run is stopped, and not a bit of the weights."""

import pytest
import torch

from spasemsr.data.order import held_out
from spasemsr.errors import UserError
from spasemsr.training.loop import train
from spasemsr.training.periodic import Periodic
from tests.worlds.short_training import SPEC, Killed, equal, killed_before, weights_of
from tests.worlds.small_methods import Colours, small_batch

WITH = SPEC.model_copy(update={"validate_every": 1, "keep_every": 2, "held": 3, "ema_decay": 0.9})


def run(folder, spec, kill_before=None):
    kept: dict[int, dict[str, torch.Tensor]] = {}
    method = Colours()

    def keep(step):
        kept[step] = {name: tensor.clone() for name, tensor in weights_of(method).items()}

    periodic = Periodic(["x", "y", "z"], small_batch, folder / "validation.csv", keep)
    train(method, killed_before(kill_before), spec, 5, folder / "state", folder / "losses.csv", "", periodic)
    return weights_of(method), (folder / "validation.csv"), kept


def test_a_stopped_run_ends_with_the_same_rows_and_kept_models_are_the_average(tmp_path):
    (tmp_path / "whole").mkdir(), (tmp_path / "cut").mkdir(), (tmp_path / "plain").mkdir()
    weights, rows, kept = run(tmp_path / "whole", WITH)
    lines = rows.read_text().splitlines()
    assert lines[0].startswith("step,") and lines[0].endswith(",total") and len(lines) == 1 + SPEC.steps
    with pytest.raises(Killed):
        run(tmp_path / "cut", WITH, kill_before=SPEC.steps - 1)
    (tmp_path / "cut/validation.csv").unlink()  # as dvc does with the outs of a killed stage
    again, cut, _ = run(tmp_path / "cut", WITH)
    assert equal(again, weights) and cut.read_text() == rows.read_text()
    bare = WITH.model_copy(update={"validate_every": 0, "keep_every": 0})
    (tmp_path / "plain/validation.csv").write_text("rows of an earlier run")
    unchanged, gone, _ = run(tmp_path / "plain", bare)
    assert equal(unchanged, weights) and not gone.exists()
    assert sorted(kept) == list(range(2, SPEC.steps + 1, 2))
    if SPEC.steps % 2 == 0:
        assert equal(kept[SPEC.steps], weights)  # the last kept one is what is written at the end


def test_whole_photographs_are_held_out():
    keys = [f"{photograph:016x}_{y:05d}_00000" for photograph in range(4) for y in range(3)]
    held = held_out(keys, 4)
    assert held == keys[:6] and held_out(keys, 0) == []
    with pytest.raises(UserError, match="there are 12 samples"):
        held_out(keys, 10)
