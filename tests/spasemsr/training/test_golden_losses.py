"""The losses of a few training steps of a tiny network, which must not move unless that is meant."""

import csv

import pytest

from spasemsr.determinism import one_thread
from spasemsr.training.loop import train
from spasemsr.training.spec import TrainSpec
from tests.worlds.small_methods import small_batch, small_method

SPEC = TrainSpec(steps=4, global_batch=2, lr=0.001, warmup_steps=2, precision="fp32", save_every=4, log_every=1)
GOLDEN = {
    "diffusion": [1.110431, 1.033341, 1.108341, 1.136423],
    "semdeg_img": [0.1005504, 0.09058785, 0.08983352, 0.08724864],
    "semdeg_sem": [0.7096493, 0.7039863, 0.6929563, 0.6826092],
    "total": [1.920631, 1.827915, 1.89113, 1.90628],
    "grad_norm": [1.023928, 1.020776, 0.7841879, 0.8279645],
}


def test_the_losses_of_the_first_steps_are_what_they_were(tmp_path):
    with one_thread():
        method = small_method(seed=7)
        train(method, lambda *_: small_batch(["a", "c"]), SPEC, 5, tmp_path / "state", tmp_path / "losses.csv")
    with (tmp_path / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {name: [float(row[name]) for row in rows] for name in rows[0] if name not in ("step", "lr")}
    print(found)  # shown by pytest when the test fails
    assert found.keys() == GOLDEN.keys()
    for name, values in found.items():
        assert values == pytest.approx(GOLDEN[name], rel=1e-4), (
            f"{name} moved: training computes something else, so weights of former runs no longer follow from their "
            "params. If that is meant, store the numbers printed above here"
        )
