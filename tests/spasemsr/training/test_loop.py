"""The trainer: resume to the bit, files that survive a kill, refusals, the log, the learning rate, the average."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spasemsr import atomic
from spasemsr.errors import UserError
from spasemsr.methods.folder import load_model, save_model
from spasemsr.methods.noise import Noise
from spasemsr.methods.stored import read_config
from spasemsr.training import checkpoint
from spasemsr.training.checkpoint import Position, load_state, save_state
from spasemsr.training.loop import train
from spasemsr.training.optimizer import Average, named_parameters
from tests.worlds.short_training import SPEC, Killed, batches, equal, killed_before, trained, weights_of
from tests.worlds.small_methods import Colours, small_batch, small_method


def run(folder: Path, method=None, kill_before=None, spec=SPEC, batches=batches):
    """Train in `folder`; the process "dies" when it asks for the batch of step `kill_before`."""

    method = method or Colours()
    train(method, killed_before(kill_before, batches), spec, 5, folder / "state", folder / "losses.csv")
    return weights_of(method), (folder / "losses.csv").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("kill_before", range(SPEC.steps))
def test_a_killed_run_ends_in_the_same_bits(tmp_path, undisturbed, kill_before):
    with pytest.raises(Killed):
        run(tmp_path, kill_before=kill_before)
    (tmp_path / "losses.csv").unlink()  # dvc deletes the outs of a killed stage
    weights, log = run(tmp_path)
    assert equal(weights, undisturbed[0])
    assert log == undisturbed[1]


def test_a_finished_run_is_only_read_back(tmp_path, undisturbed):
    run(tmp_path)

    def none(step, rank, world):
        raise AssertionError("no batch was needed")

    weights, log = run(tmp_path, batches=none)
    assert equal(weights, undisturbed[0])
    assert log == undisturbed[1]


def test_the_whole_method_resumes_to_the_bit(tmp_path):
    spec = SPEC.model_copy(update={"steps": 3, "save_every": 2, "global_batch": 1})

    def one(step, rank, world):
        return small_batch([f"s{step}"])

    drop = {"text": 0.3, "caption": 0.3, "boxes": 0.3, "object": 0.3}
    whole, log = run(tmp_path / "a", small_method(drop=drop, train_base=True), spec=spec, batches=one)
    with pytest.raises(Killed):
        run(tmp_path / "b", small_method(drop=drop, train_base=True), 2, spec, one)
    resumed, log_resumed = run(tmp_path / "b", small_method(drop=drop, train_base=True), spec=spec, batches=one)
    assert equal(whole, resumed)
    assert log == log_resumed
    assert log.splitlines()[0] == b"step,diffusion,semdeg_img,semdeg_sem,total,grad_norm,lr"


def test_training_learns(tmp_path):
    spec = SPEC.model_copy(update={"steps": 150, "save_every": 1000, "log_every": 10})
    _, log = run(tmp_path, spec=spec)
    rows = [line.split(",") for line in log.decode().splitlines()]
    totals = [float(row[rows[0].index("total")]) for row in rows[1:]]
    assert totals[-1] < 0.3 * totals[0]


# Stopping


def test_sigterm_saves_and_ends_between_two_steps(tmp_path, undisturbed):
    def terminated(step, rank, world):
        if step == 5:  # read ahead while step 4 (counted from 0) runs at the latest
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(step, rank, world)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, batches=terminated)
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    (saved,) = (tmp_path / "state").iterdir()
    assert saved.name in ("step-00000005", "step-00000006")
    weights, log = run(tmp_path)
    assert equal(weights, undisturbed[0])
    assert log == undisturbed[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_loss_stops_before_the_weights_see_it(tmp_path, value):
    def poisoned(step, rank, world):
        batch = batches(step, rank, world)
        return replace(batch, lr=batch.lr * value) if step == 4 else batch

    method = Colours()
    with pytest.raises(UserError, match=r"square is (nan|inf) at step 5, samples s4k0, s4k1, s4k2, s4k3"):
        run(tmp_path, method, batches=poisoned)
    assert all(weight.isfinite().all() for weight in weights_of(method).values())
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-00000003"]


def test_broken_steps_may_be_left_out_and_a_stopped_run_goes_on_without_them(tmp_path):
    """The same loss would come back for ever: the run that allows one more goes on from the saved state."""

    def poisoned(step, rank, world):
        batch = batches(step, rank, world)
        return replace(batch, lr=batch.lr * float("nan")) if step in (4, 7) else batch

    with pytest.raises(UserError, match="at step 5") as stop:
        run(tmp_path, batches=poisoned)
    assert "train.max_skipped: 1 or higher" in stop.value.remedy
    with pytest.raises(UserError, match="at step 8"):
        run(tmp_path, batches=poisoned, spec=SPEC.model_copy(update={"max_skipped": 1}))
    weights, log = run(tmp_path, batches=poisoned, spec=SPEC.model_copy(update={"max_skipped": 2}))
    other, other_log = run(tmp_path / "b", batches=poisoned, spec=SPEC.model_copy(update={"max_skipped": 2}))
    assert equal(weights, other) and log == other_log
    assert all(weight.isfinite().all() for weight in weights.values()) and b"nan" not in log


def test_a_broken_gradient_stops_as_well(tmp_path):
    class Cliff(Colours):
        def forward(self, batch, noise):
            return {"root": self.layers(torch.zeros(1, 3)).mul(0).square().sum().sqrt()}

    with pytest.raises(UserError, match="grad_norm is nan at step 1"):
        run(tmp_path, Cliff())


# Files


@pytest.mark.parametrize("moment", ["save_tensors", "fsync", "replace", "remove"])
def test_a_kill_while_saving_leaves_a_whole_state(tmp_path, monkeypatch, moment):
    method, optimizer, average = trained()
    save_state(tmp_path, Position(2, {"row": 1}), method, optimizer, average)
    at_two = weights_of(method)
    sum(method(batches(3, 0, 1), Noise(1, 3)).values()).backward()
    optimizer.step()
    at_three = weights_of(method)

    def die(*args, **kwargs):
        raise Killed

    where = {"save_tensors": checkpoint, "fsync": os, "replace": os, "remove": atomic}[moment]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(where, moment, die)
        save_state(tmp_path, Position(3, {"row": 2}), method, optimizer, average)
    other = trained(steps=0)
    position = load_state(tmp_path, *other)
    assert position.step in (2, 3) and position.log == {"row": position.step - 1}
    assert equal(weights_of(other[0]), {2: at_two, 3: at_three}[position.step])
    save_state(tmp_path, Position(4, {}), method, optimizer, average)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_states_hold_weights_average_and_moments_and_no_pickle(tmp_path):
    method, optimizer, average = trained()
    save_state(tmp_path, Position(2, {}), method, optimizer, average)
    files = sorted(path.name for path in (tmp_path / "step-00000002").iterdir())
    assert files == ["state.json", "state.safetensors"]
    names = load_file(tmp_path / "step-00000002" / "state.safetensors").keys()
    assert {name.partition("/")[0] for name in names} == {"weights", "average", "step", "exp_avg", "exp_avg_sq"}
    assert len(names) == 5 * len(named_parameters(method.trainable()))
    assert load_state(tmp_path / "elsewhere", method, optimizer, average) is None


def test_a_state_of_another_model_is_refused(tmp_path):
    save_state(tmp_path, Position(2, {}), *trained())
    method, optimizer, _ = trained()
    with pytest.raises(UserError, match=r"the model does not know, the first being average/layers"):
        load_state(tmp_path, method, optimizer, Average(named_parameters(method.trainable()), 0.0))


def test_models_come_back_and_have_stable_bytes(tmp_path):
    method, config = trained()[0], {"name": "x", "a": [1, 2.5]}
    save_model(tmp_path / "one", method, config)
    save_model(tmp_path / "two", method, dict(reversed(config.items())))
    for name in ("weights.safetensors", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other = Colours()
    load_model(tmp_path / "one", other)
    assert equal(weights_of(other), weights_of(method))
    assert read_config(tmp_path / "one") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layers.0.bias"), r"lacks 1 tensors, the first being layers\.0\.bias"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "the first being extra"),
        (
            lambda tensors: tensors.update({"layers.0.weight": torch.ones(5, 4)}),
            r"layers\.0\.weight, \(5, 4\) instead of \(5, 3\)",
        ),
        (lambda tensors: tensors.update({"layers.0.bias": torch.ones(5).double()}), "float64"),
    ],
)
def test_wrong_weights_are_refused_by_name(tmp_path, change, message):
    method = Colours()
    save_model(tmp_path, method, {})
    tensors = load_file(tmp_path / "weights.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "weights.safetensors")
    before = weights_of(method)
    with pytest.raises(UserError, match=message):
        load_model(tmp_path, method)
    assert equal(weights_of(method), before)


def test_damaged_and_missing_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_model(tmp_path, Colours())
    with pytest.raises(UserError, match="does not exist"):
        read_config(tmp_path)
    save_model(tmp_path, Colours(), {})
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="the first tensor that is not complete is"):
        load_model(tmp_path, Colours())


def test_training_can_start_from_given_weights(tmp_path):
    method = trained()[0]
    save_model(tmp_path / "given", method, {})
    started = []

    class Watched(Colours):
        def forward(self, batch, noise):
            started.append(weights_of(self))
            return super().forward(batch, noise)

    run(tmp_path, Watched(), spec=SPEC.model_copy(update={"init": str(tmp_path / "given"), "steps": 1}))
    assert equal(started[0], weights_of(method))
