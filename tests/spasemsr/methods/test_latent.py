"""What methods may build on: a state beside the latents, feature maps cut into tiles, and a cache that covers them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from spasemsr.cache import Cache
from spasemsr.diffusion.spec import ScheduleSpec
from spasemsr.diffusion.tiling import Tile
from spasemsr.errors import UserError
from spasemsr.evaluation.restoration import CachedRestoration
from spasemsr.methods.baselines import Bicubic
from spasemsr.methods.latent import LatentDiffusion, Prediction
from spasemsr.methods.noise import Noise
from spasemsr.methods.protocol import Grid
from spasemsr.methods.view import View
from tests.worlds.small_methods import CHANNELS, PooledAutoencoder, sampling, small_batch

NOISE = Noise(7, 0)


class Coupled(LatentDiffusion):
    """Predicts noise from a map beside the latents, which counts steps where a feature map is one."""

    columns = restore_columns = frozenset({"lr", "features/coupled"})
    reads_lr_latents = True

    def __init__(self, prediction="epsilon"):
        grid = Grid(CHANNELS, 8, 0, learned=False)
        super().__init__(PooledAutoencoder(), ScheduleSpec(prediction=prediction), 4, grid, "lr")
        self.layer = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.begun, self.views, self.conditions = [], [], []

    def trainable(self):
        return {"layer": self.layer}

    def training_condition(self, batch, noise, noisy, timesteps):
        self.conditions.append((noisy, timesteps))
        return 0.0

    def condition(self, batch, sampling):
        return batch.features["map"].mean()

    unconditional = condition

    def encode(self, view, condition):
        self.views.append(view)
        return view.features["map"][..., ::8, ::8], condition

    def begin(self, batch, noise, timesteps, predicted=None):
        self.begun.append((int(timesteps[0]), predicted and {name: value.clone() for name, value in predicted.items()}))
        if predicted is None:
            return {"steps": noise.gaussian("steps", batch.keys, (1, *self.size)) * 0}
        return {"steps": predicted["steps"] + 0.5}

    def predict(self, noisy, timesteps, encoded, carry, scale=1.0):
        ones, _ = encoded
        return Prediction(self.layer(noisy) + carry["steps"], {"steps": carry["steps"] + ones}, carry["steps"])

    def side_losses(self, prediction, latents_ref, batch):
        return {"steps": prediction.aux.square().mean()}

    def in_tile(self, batch, tile, height, width):
        return batch


def with_map(batch):
    """A map of full resolution that is one in the left half, and a feature of no place."""
    image = torch.zeros(len(batch.keys), 1, 4 * batch.lr.shape[2], 4 * batch.lr.shape[3])
    image[..., : image.shape[-1] // 2] = 1
    return replace(batch, features={"map": image, "words": torch.ones(len(batch.keys), 5, 7)})


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_state_moves_on_from_step_to_step_through_all_tiles(guidance):
    method, batch = Coupled(), with_map(small_batch(["a"], 32, 64, training=False))
    method.size = (16, 32)
    asked = sampling(steps=3, tile=16, tile_overlap=4, guidance=guidance)
    counted = []
    method.restore(batch, NOISE, asked, called=lambda: counted.append(1))
    assert len(counted) == method.calls(32, 64, asked) == 3 * (1 if guidance == 1.0 else 2)  # three tiles a call
    assert [timestep for timestep, _ in method.begun] == method.schedule.sampling_timesteps(3)
    first, second, third = (predicted for _, predicted in method.begun)
    assert first is None
    left = (torch.arange(32) < 16).float().expand(1, 1, 16, 32)
    assert torch.allclose(second["steps"], left) and torch.allclose(third["steps"], 2 * left + 0.5)


def test_a_residual_is_added_by_its_share_to_what_is_shown_and_nothing_of_that_is_lost():
    """The autoencoder keeps cell means alone, the picture all its detail."""
    torch.manual_seed(0)
    method, batch = Coupled("residual"), with_map(small_batch(["a"], 16, 16, training=False))
    method.size = (8, 8)
    with torch.no_grad():  # little enough that no cell is clamped
        method.layer.weight *= 0.02
        method.layer.bias *= 0.02
    shown = method._lr_up(batch).clamp(0, 1)
    nothing, half, whole = (
        method.restore(batch, NOISE, sampling(colorfix="none", steps=1, share=share)) for share in (0.0, 0.5, 1.0)
    )
    assert torch.allclose(nothing, shown, atol=1e-6) and not torch.allclose(whole, shown, atol=1e-3)
    assert torch.allclose(half - shown, (whole - shown) / 2, atol=1e-5)
    with pytest.raises(UserError, match="this model does not add to what it is shown"):
        Coupled().restore(batch, NOISE, sampling(share=0.5))


def test_a_state_that_differs_changes_the_result():
    batch, found = with_map(small_batch(["a"], 16, 16, training=False)), []
    for start in (0.0, 1.0):
        torch.manual_seed(0)
        method = Coupled()
        method.begin = lambda batch, noise, timesteps, predicted=None, start=start: {
            "steps": torch.full((1, 1, 8, 8), start)
        }
        found.append(method.restore(batch, NOISE, sampling(colorfix="none")))
    assert not torch.equal(*found)


def test_training_draws_the_state_and_shows_what_a_condition_may_depend_on():
    method, batch = Coupled(), with_map(small_batch(["a", "b"]))
    method.size = (8, 8)
    losses = method(batch, NOISE)
    assert list(losses) == ["diffusion", "steps"]
    ((noisy, timesteps),) = method.conditions
    assert noisy.shape == (2, CHANNELS, 8, 8) and timesteps.shape == (2,)
    assert method.begun == [(int(timesteps[0]), None)]
    assert method.views[0].lr_latents_BChw.shape == (2, CHANNELS, 8, 8)


def test_maps_are_cut_with_the_picture_and_padded_as_it_is():
    method, batch = Coupled(), with_map(small_batch(["a"], 24, 48, training=False))  # 96 x 192 pixels, padded to 128
    method.size = (16, 24)
    method.restore(batch, NOISE, sampling(tile=16, tile_overlap=0, steps=1))
    shapes = [(view.lr_up_B3HW.shape[2:], view.lr_latents_BChw.shape[2:], view.features["map"].shape[2:])
              for view in method.views]  # fmt: skip
    assert shapes == [((128, 128), (16, 16), (128, 128))]
    (shown,) = method.views  # of two tiles
    assert shown.features["map"].mean((1, 2, 3)).tolist() == [96 / 128, pytest.approx(32 / 128)]
    assert shown.features["words"].shape == (2, 5, 7)
    view = View(torch.rand(1, 3, 128, 128), None, {"cells": torch.arange(16.0).expand(1, 1, 16, 16)})
    assert view.in_tile(Tile(0, 4, 16, 8), 16).features["cells"][0, 0, 0].tolist() == list(range(4, 12))


@pytest.mark.parametrize(("each", "shape"), [(1, (13, 25)), (2, (25, 50)), (4, (50, 100)), (8, (100, 200))])
def test_a_map_with_several_values_for_a_cell_is_padded_as_the_picture_is(each, shape):
    value, padded = torch.rand(1, 2, *shape), torch.zeros(1, 3, 128, 256)  # of 100 x 200 pixels
    grown = Coupled()._padded("map", value, 100, padded)
    assert grown.shape == (1, 2, 16 * each, 32 * each)
    assert torch.equal(grown[..., : shape[0], : shape[1]], value)


def test_a_map_that_fits_no_cell_is_named():
    method, batch = Coupled(), small_batch(["a"], 16, 16, training=False)
    batch = replace(batch, features={"map": torch.zeros(1, 1, 37, 64)})
    with pytest.raises(ValueError, match="feature 'map' is a map of"):
        method.restore(batch, NOISE, sampling())


def test_what_was_restored_is_found_again_by_everything_it_is_made_of(tmp_path):
    method, batch = Bicubic(4), small_batch(["a"], training=False)
    restore = CachedRestoration(method, Cache(tmp_path), ["weights"])
    first = restore(batch, 0, sampling())
    entries = lambda: sum(usage.entries for usage in Cache(tmp_path).stat().values())  # noqa: E731
    assert (restore(batch, 0, sampling()) == first).all() and entries() == 1
    others = [
        lambda: restore(batch, 1, sampling()),
        lambda: restore(batch, 0, sampling(steps=3)),
        lambda: restore(replace(batch, captions=["sharp"]), 0, sampling()),
        lambda: restore(replace(batch, features={"map": torch.zeros(1, 2, 8, 8)}), 0, sampling()),
        lambda: restore(replace(batch, features={"map": torch.ones(1, 2, 8, 8)}), 0, sampling()),
        lambda: CachedRestoration(method, Cache(tmp_path), ["other weights"])(batch, 0, sampling()),
    ]
    for number, other in enumerate(others, start=2):
        other()
        assert entries() == number
