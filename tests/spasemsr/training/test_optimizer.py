"""Optimizer, average of the weights, log of losses."""

import json

import pytest
import torch

from spasemsr.training.log import LossLog
from spasemsr.training.optimizer import Average, build_optimizer, learning_rate, named_parameters
from tests.worlds.short_training import SPEC, equal, trained, weights_of
from tests.worlds.siblings import sibling
from tests.worlds.small_methods import Colours, small_method


def test_decay_spares_biases_norms_and_layer_scales():
    method = small_method(redrawn=False)
    modules = method.trainable()
    names = {id(p): name for name, p in named_parameters(modules).items()}
    decayed, spared = ({names[id(p)] for p in group["params"]} for group in build_optimizer(modules, SPEC).param_groups)
    assert len(decayed) + len(spared) == len(names) == 1370
    assert not decayed & spared
    assert {"e_sem.blocks.0.layer_scale", "fusion.norm.weight", "controlnet.conv_in.bias"} <= spared
    assert {"controlnet.conv_in.weight", "e_img.stack.layers.0.weight", "fusion.layers.0.weight"} <= decayed
    assert not any(name.endswith("bias") or ".norm" in name for name in decayed)
    labels = sibling("segsr").trainable()
    names = {id(p): name for name, p in named_parameters(labels).items()}
    assert not any(names[id(p)].endswith("gain") for p in build_optimizer(labels, SPEC).param_groups[0]["params"])
    assert not any(name.startswith("unet.") for name in names.values())


def test_frozen_parameters_are_not_optimized():
    method = Colours()
    method.layers[0].weight.requires_grad_(False)
    assert "layers.0.weight" not in named_parameters(method.trainable())


def test_the_learning_rate_warms_up_and_stays():
    assert [learning_rate(step, SPEC) for step in (0, 1, 2, 3, 10)] == pytest.approx([0.01 / 3, 0.02 / 3] + [0.01] * 3)
    assert learning_rate(0, SPEC.model_copy(update={"warmup_steps": 0})) == 0.01


def test_the_learning_rate_falls_to_zero_over_the_cooldown():
    spec = SPEC.model_copy(update={"steps": 10, "warmup_steps": 2, "cooldown_steps": 4})
    shares = [learning_rate(step, spec) / spec.lr for step in range(10)]
    assert shares == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_the_average_follows_its_recurrence():
    method, _, average = trained(steps=0)
    expected = weights_of(method)
    for step in range(5):
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.add_(step + 1)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * now for name, now in weights_of(method).items()}
    assert all(torch.allclose(average.shadow[name], expected[name], atol=1e-5) for name in expected)
    average.copy_to_parameters()
    assert all(torch.equal(now, average.shadow[name]) for name, now in weights_of(method).items())


def test_without_decay_the_weights_are_their_own_average(tmp_path):
    method = Colours()
    average = Average(named_parameters(method.trainable()), 0.0)
    before = weights_of(method)
    average.update(0)
    average.copy_to_parameters()
    assert average.shadow == {} and equal(weights_of(method), before)


def test_rows_are_means_since_the_row_before(tmp_path):
    log = LossLog(tmp_path / "new" / "losses.csv", 2)
    for step in range(1, 6):
        log.add(step, {"a": float(step), "b": 0.5, "total": step + 0.5, "grad_norm": 2.0}, 0.1)
    lines = (tmp_path / "new" / "losses.csv").read_text().splitlines()
    assert lines[0] == "step,a,b,total,grad_norm,lr"
    assert lines[1] == "2,1.500000e+00,5.000000e-01,2.000000e+00,2.000000e+00,1.000000e-01"
    assert lines[2].startswith("4,3.500000e+00")
    assert len(lines) == 3
    state = json.loads(json.dumps(log.state()))
    (tmp_path / "new" / "losses.csv").write_text("spoiled")
    again = LossLog(tmp_path / "new" / "losses.csv", 2, state)
    again.add(6, {"a": 9.0, "b": 0.5, "total": 9.5, "grad_norm": 2.0}, 0.1)
    lines = (tmp_path / "new" / "losses.csv").read_text().splitlines()
    assert lines[3].startswith("6,7.000000e+00")  # the mean of 5, which had no row yet, and 9
