"""A training step without contents takes what a real one takes, and is counted once for params, code and libraries."""

from dataclasses import replace

import pytest

from pipeline.planning import counted as counting
from pipeline.planning import training
from pipeline.planning.counted import step_cost
from pipeline.planning.counts import Counts
from pipeline.planning.hardware import Hardware
from pipeline.planning.methods import MethodCost
from pipeline.planning.step import StepCost
from spasemsr.backends.autoencoder.spec import BlockDCTSpec
from spasemsr.config import load_params
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.methods import method
from spasemsr.training.devices import PEAK
from spasemsr.training.loop import train
from spasemsr.training.memory import StateBytes
from spasemsr.training.spec import TrainSpec
from tests.worlds import ROOT
from tests.worlds.siblings import FEATURES as SIBLINGS
from tests.worlds.siblings import MODELS
from tests.worlds.small_methods import FEATURES, small_batch, small_method
from tests.worlds.small_networks import LATENTS, PICO, TEXT

COST = StepCost(967_000_000, 5e12, 2e12, StateBytes(7, 4, 4, 8, 0), 30, 20, 2, 3)


class Latents(BlockDCTSpec):
    """As many channels as the small autoencoder of the tests."""

    @property
    def channels(self):
        return LATENTS


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """How often a step was counted; counting itself is another test's."""
    calls = []
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(training, "trace_step", lambda *given: calls.append(given) or COST)
    return calls


@pytest.fixture
def asked():
    params = load_params(ROOT / "params.yaml")
    return method("spasemsr"), params.ingredients("spasemsr"), params.active.train_of("spasemsr")


def test_operations_and_state_are_those_of_a_real_step(asked, tmp_path, monkeypatch):
    face, given, _ = asked
    features = {"sam": {"kind": "filter_bank", "channels": FEATURES}}
    section = face.section.model_validate({"model": PICO, "features": features})
    text = given.text_encoder.model_copy(update={"length": 10, "width": TEXT})
    given = replace(given, section=section, patch=64, text_encoder=text, autoencoder=Latents(kind="block_dct"))
    spec = TrainSpec(steps=1, global_batch=2, precision="fp32", save_every=1, warmup_steps=0)
    cost = training.trace_step(face, given, spec)
    monkeypatch.setenv(PEAK, "1")
    small = small_method()
    spent = train(small, lambda *_: small_batch(["a", "b"]), spec, 5, tmp_path / "state", tmp_path / "losses.csv")
    assert cost.operations == pytest.approx(spent.flops_per_sample, rel=0.02)
    assert cost.operations / 4 < cost.forward < cost.operations / 2
    trained = sum(p.numel() for part in small.trainable().values() for p in part.parameters())
    assert cost.trained == trained
    assert cost.state.weights == cost.state.gradients == cost.state.moments // 2 == 4 * trained
    assert cost.per_sample > 2 * cost.per_sample_checkpointed > 0
    assert cost.memory(4, False) > cost.memory(2, False) > cost.state.total


def test_places_that_words_are_bound_to_are_part_of_the_counted_step(asked):
    face, given, _ = asked
    model = {**PICO, "spatial": {"binding": "bias"}}
    section = face.section.model_validate({"model": model, "features": {"sam": {"kind": "filter_bank", "channels": 4}}})
    step = face.trace(replace(given, section=section, patch=64))
    step.loss(1).backward()
    strengths = step.trainable()["binding"].parameters()
    assert all(strength.grad is not None for strength in strengths)


def test_a_step_is_counted_whatever_else_its_result_is_judged_by(asked):
    """The perceptual loss decodes images, and nothing is decoded where tensors hold nothing."""
    face, (_, given, train) = method("seesr"), asked
    model = {**MODELS["seesr"], "unet": PICO["unet"]}
    model |= {"schedule": {"prediction": "residual", "last_share": 0.5, "perceptual": 1.0}}
    section = face.section.model_validate({"model": model, "features": SIBLINGS["seesr"]})
    assert training.trace_step(face, replace(given, section=section, patch=64), train).operations > 0


@pytest.mark.parametrize("start", [1.0, 0.3])
def test_evaluation_takes_every_step_wherever_sampling_starts(start):
    """`sample.start` says where the steps lie, not how many of them there are."""
    sample = SampleSpec(steps=20, start=start, guidance=1.0)
    cost = MethodCost("x", TrainSpec(), sample, COST, None, Hardware(None, 1, 0, False))
    counts = Counts(1, 1, 512, 512, 1, "")
    assert cost.evaluate_hours(counts) * 3600 * cost.hardware.flops == pytest.approx(20 * COST.forward)


def test_a_step_is_counted_once_and_what_stands_beside_it_is_added_later(counted, asked):
    assert step_cost(*asked) == step_cost(*asked) == COST
    assert step_cost(*asked, beside=100).state == replace(COST.state, frozen=107)
    assert len(counted) == 1


@pytest.mark.parametrize("changed", ["network", "patch", "precision", "code", "library"])
def test_it_is_counted_again_when_what_it_depends_on_changes(counted, asked, changed, monkeypatch):
    face, given, train = asked
    step_cost(*asked)
    match changed:
        case "network":
            other = given.section.model.model_copy(update={"fusion_width": 48})
            given = replace(given, section=given.section.model_copy(update={"model": other}))
        case "patch":
            given = replace(given, patch=2 * given.patch)
        case "precision":
            train = train.model_copy(update={"precision": "bf16"})
        case "code":
            monkeypatch.setattr(counting, "sha256_file", lambda path: "0" * 64)
        case "library":
            monkeypatch.setattr(counting.importlib.metadata, "version", lambda library: "9")
    step_cost(face, given, train)
    assert len(counted) == 2


def test_the_length_of_training_changes_no_count(counted, asked):
    face, given, train = asked
    step_cost(*asked)
    step_cost(face, given, train.model_copy(update={"steps": 7}))
    assert len(counted) == 1


def test_a_cache_that_cannot_be_written_stops_nobody(counted, asked, tmp_path):
    (tmp_path / "cache").write_text("a file, where a folder should be")
    assert step_cost(*asked) == step_cost(*asked) == COST
    assert len(counted) == 2
