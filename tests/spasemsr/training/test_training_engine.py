"""Time against memory in training: micro-batches, checkpointing, optimizers, compiling, and what a run took."""

import sys
import time
from types import ModuleType

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from pipeline.engine import training_account
from spasemsr.errors import UserError
from spasemsr.methods.spasemsr.spec import LIGHT, ModelSpec
from spasemsr.training.devices import PEAK, known_device, peak_flops
from spasemsr.training.loop import train
from spasemsr.training.memory import smaller_settings, state_bytes
from spasemsr.training.meter import Meter
from spasemsr.training.spec import TrainSpec
from spasemsr.training.spent import Spent
from tests.worlds.short_training import Killed, equal, killed_before, weights_of
from tests.worlds.small_methods import Colours, small_method

SPEC = TrainSpec(
    steps=6, global_batch=4, lr=0.01, warmup_steps=2, ema_decay=0.9, precision="fp32", save_every=2, log_every=1
)


def run(folder, method, kill_before=None, **changes):
    """Weights, rows of losses.csv and what the run took; the process "dies" at the batch of step `kill_before`."""
    spec = SPEC.model_copy(update=changes)
    spent = train(method, killed_before(kill_before), spec, 5, folder / "state", folder / "losses.csv")
    return weights_of(method), (folder / "losses.csv").read_text(), spent


def numbers(log):
    return torch.tensor([[float(cell) for cell in line.split(",")] for line in log.splitlines()[1:]])


# Micro-batches


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_give_the_losses_and_weights_of_the_whole_batch(tmp_path, accumulate):
    whole, log, _ = run(tmp_path / "whole", Colours())
    parts, log_parts, _ = run(tmp_path / "parts", Colours(), accumulate=accumulate)
    assert torch.allclose(numbers(log), numbers(log_parts), rtol=1e-5)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)


def test_the_whole_method_learns_the_same_in_micro_batches(tmp_path):
    drop = {"text": 0.3, "caption": 0.3, "boxes": 0.3, "object": 0.3}
    _, log, _ = run(tmp_path / "whole", small_method(drop=drop), steps=2, lr=1e-3)
    _, log_parts, _ = run(tmp_path / "parts", small_method(drop=drop), steps=2, lr=1e-3, accumulate=2)
    assert torch.allclose(numbers(log), numbers(log_parts), rtol=2e-4)


def test_a_killed_run_of_micro_batches_ends_in_the_same_bits(tmp_path):
    whole, log, _ = run(tmp_path / "whole", Colours(), accumulate=2)
    with pytest.raises(Killed):
        run(tmp_path / "killed", Colours(), kill_before=3, accumulate=2)
    resumed, log_resumed, _ = run(tmp_path / "killed", Colours(), accumulate=2)
    assert equal(whole, resumed)
    assert log == log_resumed


def test_micro_batches_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"global_batch = 4 does not divide among 1 processes of 3 micro-batches"):
        run(tmp_path, Colours(), accumulate=3)


# Checkpointing, compiling, memory format


def test_checkpointing_changes_no_bit(tmp_path):
    plain, log, _ = run(tmp_path / "plain", small_method(), steps=2)
    method = small_method()
    recomputed, log_recomputed, _ = run(tmp_path / "recomputed", method, steps=2, gradient_checkpointing=True)
    assert method.network.gradient_checkpointing
    assert equal(plain, recomputed)
    assert log == log_recomputed


def test_compiling_takes_the_network_alone(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    method = small_method()
    predict = method.network.predict
    run(tmp_path, method, steps=1, compile=True)
    assert compiled == [predict]


def test_channels_last_learns_the_same_and_resumes_to_the_bit(tmp_path):
    _, log, _ = run(tmp_path / "plain", small_method(), steps=3, lr=1e-3)
    method = small_method()
    whole, log_last, _ = run(tmp_path / "last", method, steps=3, lr=1e-3, channels_last=True)
    convolution = method.network.control.backbone.conv_in.weight
    assert convolution.is_contiguous(memory_format=torch.channels_last) and not convolution.is_contiguous()
    assert torch.allclose(numbers(log), numbers(log_last), rtol=2e-3)
    with pytest.raises(Killed):
        run(tmp_path / "killed", small_method(), kill_before=2, steps=3, lr=1e-3, channels_last=True)
    resumed, log_resumed, _ = run(tmp_path / "killed", small_method(), steps=3, lr=1e-3, channels_last=True)
    assert equal(whole, resumed)
    assert log_last == log_resumed


def test_light_is_a_preset_of_the_attentions():
    light = ModelSpec.model_validate({"attention": "light"})
    assert light.attention.model_dump() == LIGHT
    assert ModelSpec.model_validate({"attention": "paper"}) == ModelSpec()
    assert ModelSpec.model_validate(light.plain()) == light
    with pytest.raises(ValidationError):
        ModelSpec.model_validate({"attention": "lite"})


# Optimizers


class Coarse(torch.optim.Optimizer):
    """Keeps what bitsandbytes' AdamW8bit keeps: a plain counter, a moment in 8 bits and its scale."""

    def __init__(self, groups, lr, betas, eps):
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {
                        "step": 0,
                        "state1": torch.full_like(p, 128, dtype=torch.uint8),
                        "absmax1": p.new_zeros(1),
                    }
                state["step"] += 1
                moment = 0.9 * (state["state1"].float() - 128) / 127 * state["absmax1"] + 0.1 * p.grad
                state["absmax1"] = moment.abs().max().reshape(1) + 1e-12
                state["state1"] = (moment / state["absmax1"] * 127 + 128).round().to(torch.uint8)
                p -= group["lr"] * moment / (1 + 1 / state["step"])


def test_eight_bits_without_bitsandbytes_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match="bitsandbytes") as refused:
        run(tmp_path, Colours(), optimizer="adamw8bit")
    assert "train.optimizer: adamw" in refused.value.remedy


def test_an_optimizer_in_eight_bits_resumes_to_the_bit(tmp_path, monkeypatch):
    package, optim = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.optim")
    optim.AdamW8bit = Coarse
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", optim)
    whole, log, _ = run(tmp_path / "whole", Colours(), optimizer="adamw8bit")
    for kill_before in (3, 5):
        with pytest.raises(Killed):
            run(tmp_path / f"{kill_before}", Colours(), kill_before=kill_before, optimizer="adamw8bit")
        resumed, log_resumed, _ = run(tmp_path / f"{kill_before}", Colours(), optimizer="adamw8bit")
        assert equal(whole, resumed)
        assert log == log_resumed


# Memory


class Greedy(Colours):
    """Fails as torch does when memory runs out."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, batch, noise):
        if noise.step == 1:
            raise self.error
        return super().forward(batch, noise)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: ...")],
)
def test_running_out_of_memory_names_settings_that_need_less(tmp_path, error):
    with pytest.raises(UserError, match=r"memory ran out at step 2, in a micro-batch of 4 samples") as refused:
        run(tmp_path, Greedy(error))
    for setting in (
        "train.accumulate: 2 (micro-batches of 2)",
        "train.gradient_checkpointing: true",
        "train.optimizer: adamw8bit",
    ):
        assert setting in refused.value.remedy


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="a shape"):
        run(tmp_path, Greedy(RuntimeError("a shape")))


def test_settings_that_are_on_are_not_proposed_again():
    spec = SPEC.model_copy(update={"accumulate": 3, "gradient_checkpointing": True, "optimizer": "adamw8bit"})
    assert [text.split(":")[0] for text in smaller_settings(spec, 9, "light: on")] == ["train.accumulate", "light"]
    assert smaller_settings(spec, 9)[0].startswith("train.accumulate: 9 ")
    assert smaller_settings(spec, 1) == []


def test_what_a_run_holds_follows_from_its_parameters():
    model = nn.ModuleDict({"trained": nn.Linear(10, 10), "frozen": nn.Linear(5, 4).requires_grad_(False)})
    trained = 110
    held = state_bytes(model, {"trained": model["trained"]}, SPEC)
    assert (held.frozen, held.weights, held.gradients) == (24 * 4, 4 * trained, 4 * trained)
    assert (held.moments, held.average) == (8 * trained, 4 * trained)
    bare = SPEC.model_copy(update={"optimizer": "adamw8bit", "ema_decay": 0.0})
    smaller = state_bytes(model, {"trained": model["trained"]}, bare)
    assert (smaller.moments, smaller.average) == (2 * trained, 0)
    assert smaller.total == 24 * 4 + (4 + 4 + 2) * trained


# What a run took


def test_operations_are_counted_where_a_peak_is_stated(tmp_path, monkeypatch):
    monkeypatch.setenv(PEAK, "0.001")
    _, log, spent = run(tmp_path / "stated", Colours())
    # forward 2 (3*5 + 5*3), gradients of both weights the same again, of the second layer's input 2 * 5 * 3
    assert spent.flops_per_sample == 2 * 30 + 2 * 30 + 2 * 15
    assert spent.mfu == pytest.approx(150 * spent.samples_per_second / 1e9)
    assert (spent.device, spent.processes, spent.steps) == ("cpu", 1, 6)
    assert spent.peak_bytes > 100e6  # a process that has imported torch
    monkeypatch.delenv(PEAK)
    _, without, spent = run(tmp_path / "unknown", Colours())
    assert spent.mfu is None and spent.flops_per_sample is None and spent.samples_per_second > 0
    assert without == log


def test_recomputed_operations_are_no_utilisation(tmp_path, monkeypatch):
    monkeypatch.setenv(PEAK, "1")
    plain = run(tmp_path / "plain", small_method(), steps=1)[2].flops_per_sample
    again = run(tmp_path / "again", small_method(), steps=1, gradient_checkpointing=True)[2].flops_per_sample
    assert again == pytest.approx(plain, rel=0.1)


def test_the_step_that_compiles_is_left_out_of_the_rate(monkeypatch):
    """While operations are counted nothing is compiled, so that the second step is the slow one."""
    compiled = []
    function = torch.compile(lambda x: (x @ x).sum(), backend=lambda graph, _: compiled.append(graph) or graph.forward)
    monkeypatch.setenv(PEAK, "1")
    meter, now, seen = Meter(torch.device("cpu"), 1, 4, "fp32", compiled=True), [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for seconds in (3, 100, 2, 2):  # counted, compiled, and two as all that follow
        with meter.operations(4, recomputes=False) as forward_is_over:
            function(torch.ones(2, 2))
            forward_is_over()
        now[0] += seconds
        seen.append(len(compiled))
        meter.finished()
    assert seen == [0, 1, 1, 1] and meter.spent().samples_per_second == 2.0


def test_peaks_are_those_of_the_data_sheets_for_bf16_only(monkeypatch):
    monkeypatch.delenv(PEAK, raising=False)
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert peak_flops("NVIDIA H100 PCIe", "bf16") == 756e12
    assert known_device("NVIDIA A100-SXM4-40GB").memory == 40e9
    assert peak_flops("NVIDIA A100-SXM4-80GB", "fp32") is None
    assert peak_flops("cpu", "bf16") is None
    monkeypatch.setenv(PEAK, "fast")
    with pytest.raises(UserError, match="'fast' is no number"):
        peak_flops("cpu", "fp32")


def test_accounts_of_training_are_read_back_and_damage_is_passed_over(tmp_path):
    spent = Spent("cpu", 2, 10, 12.5, 3.25, 10**9, None, None)
    training_account.record(tmp_path / "cache", tmp_path, "spasemsr", "embedded", spent)
    assert list(training_account.read(tmp_path / "cache", tmp_path, "embedded")) == [("spasemsr", spent)]
    assert list(training_account.read(tmp_path / "cache", tmp_path / "elsewhere", "embedded")) == []
    assert list(training_account.read(tmp_path / "cache", tmp_path, "foundation")) == []
    (path,) = (tmp_path / "cache").rglob("spasemsr.embedded.json")
    path.write_text("{")
    assert list(training_account.read(tmp_path / "cache", tmp_path, "embedded")) == []
    assert str(spent) == "3.25 samples/s on 2 x cpu · peak memory 1.00 GB"
