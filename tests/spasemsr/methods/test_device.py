"""Nothing is left behind when a method moves to a device: tried on a second device that needs no hardware."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.engine import restoring
from spasemsr.backends.networks.stlpips import ShiftTolerantNetwork
from spasemsr.cache import Cache
from spasemsr.errors import UserError
from spasemsr.evaluation.restoration import CachedRestoration
from spasemsr.methods import folder
from spasemsr.methods.noise import Noise
from tests.worlds.second_device import DEVICE, There, second_device
from tests.worlds.small_methods import sampling, small_batch, small_method
from tests.worlds.strict_gpu import StrictGpu

TILES = {"tile": 16, "tile_overlap": 4}


def test_the_second_device_refuses_what_was_left_on_the_cpu():
    with second_device() as device:
        there = torch.ones(3).to(device)
        assert isinstance(there, There) and (2 * there + there).device == device == DEVICE
        assert torch.zeros(2, device=device).device == device and there.cpu().device.type == "cpu"
        with pytest.raises(RuntimeError, match="left on the CPU"):
            there + torch.ones(3)
        layer = torch.nn.Linear(3, 2)
        with pytest.raises(RuntimeError, match="left on the CPU"):
            layer(there[None])
        assert layer.to(device)(there[None]).device == device
    assert torch.ones(3).device.type == "cpu"


@pytest.mark.parametrize(
    ("settings", "side"),
    [({"solver": "ddpm", "guidance": 3.0}, 16), ({"colorfix": "wavelet", "steps": 1, **TILES}, 36)],
)
def test_restoring_happens_where_the_method_is(settings, side):
    method, batch = small_method(), small_batch(["a", "c"], side + 4, side, training=False)
    spec = sampling(**settings)
    with torch.no_grad():
        expected = method.restore(batch, Noise(1, 0), spec)
        with second_device() as device:
            restored = method.to(device).restore(batch.to(device), Noise(1, 0), spec)
    assert restored.device == DEVICE
    assert (restored.held - expected).abs().max() < 1e-4


def test_training_happens_where_the_method_is():
    method, batch = small_method(), small_batch(["a", "c"])
    expected = method(batch, Noise(1, 0))
    with second_device() as device, torch.no_grad():
        losses = method.to(device)(batch.to(device), Noise(1, 0))
    assert {loss.device for loss in losses.values()} == {DEVICE}
    for name, loss in losses.items():
        assert loss.held.item() == pytest.approx(expected[name].item(), rel=1e-4)


def test_a_gpu_refuses_no_step_for_want_of_determinism():
    """Nor does the network of the perceptual loss, with its own weights or others."""
    method, batch = small_method(spatial={"binding": "bias"}), small_batch(["a", "c"])
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    network = ShiftTolerantNetwork()
    with StrictGpu():
        sum(method(batch, Noise(1, 0)).values()).backward()
        network(images, network.features(images.detach().flip(-1))).backward()
        with pytest.raises(RuntimeError, match="does not have a deterministic"):
            torch.nn.functional.adaptive_avg_pool2d(images, 2).sum().backward()


def test_evaluation_follows_the_method_to_its_device_and_keeps_its_pictures_apart(tmp_path):
    method, cache = small_method(), Cache(tmp_path)
    batch, seen = small_batch(["a"], training=False), []
    here = CachedRestoration(method, cache, ["model"])(batch, 1, sampling())
    with second_device() as device:
        restore = method.to(device).restore
        method.restore = lambda batch, *rest: (seen.append(batch.lr.device), restore(batch, *rest))[1]
        there = CachedRestoration(method, cache, ["model"])(batch, 1, sampling())
    assert seen == [DEVICE], "the CPU's picture was taken for this device's"
    assert np.abs(here.astype(int) - there).max() <= 1


def test_what_a_method_restores_from_names_its_pictures(tmp_path):
    """Every part of a batch that a method may read, features of its own too."""
    method, restored = small_method(), []
    method.restore = lambda batch, *_: restored.append(batch) or torch.zeros(1, 3, 8, 8)
    picture = CachedRestoration(method, Cache(tmp_path), ["model"])
    batch, edges = small_batch(["a"], training=False), torch.zeros(1, 1, 4, 4)
    for shown in (batch, replace(batch, features={"edges": edges}), replace(batch, features={"edges": edges + 1})):
        for _ in range(2):
            picture(shown, 1, sampling())
    assert len(restored) == 3


def test_stages_load_a_trained_method_onto_the_device_and_the_papers_onto_nothing_slower(tmp_path, monkeypatch):
    """What evaluate, dial and audit restore with, in every worker."""

    def loaded(profile: str) -> torch.device:
        config = SimpleNamespace(inference=SimpleNamespace(profile=profile))
        monkeypatch.setattr(restoring, "read_model_config", lambda folder: config)
        return next(restoring.restoration(tmp_path, tmp_path, {}, Cache(tmp_path), "fp32").method.parameters()).device

    method = small_method()
    method.restore_columns = frozenset()
    monkeypatch.setattr(folder, "load_method", lambda *_: method)
    monkeypatch.setattr(restoring, "Dataset", lambda *_: None)
    monkeypatch.setattr(restoring, "made_of", lambda *_: [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("SPASEMSR_DEVICE", raising=False)
    assert loaded("embedded").type == "cpu"
    with pytest.raises(UserError, match="needs a GPU"):
        loaded("foundation")
    monkeypatch.setenv("SPASEMSR_DEVICE", "meta")
    assert {loaded(profile).type for profile in ("embedded", "foundation")} == {"meta"}
