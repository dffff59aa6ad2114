"""Errors of what eq. 9 holds a network to, on pictures it has not learned from."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spasemsr.evaluation.constraints import ConstraintErrors
from spasemsr.methods.noise import Noise
from spasemsr.methods.spasemsr.constraint import layer_distances
from spasemsr.methods.view import View
from spasemsr.pixels import to_tensor
from tests.worlds.siblings import NAMES, sibling
from tests.worlds.small_methods import FEATURES, sampling, small_batch, small_method

HR = {key: np.random.default_rng(place).integers(0, 256, (64, 64, 3), np.uint8) for place, key in enumerate("ab")}


class Cells:
    """Features of a picture in the place of SAM's: its 8x8 cells, repeated over channels."""

    def extract(self, images):
        return [image.reshape(8, 8, 8, 8, 3).mean((1, 3, 4))[None].repeat(FEATURES, 0) / 128 - 1 for image in images]


def _errors(method, extractors, seed=4):
    found = ConstraintErrors(method, extractors, seed, sampling())
    for key, hr in HR.items():
        found.add(small_batch([key], training=False), hr)
    return found


def test_an_error_is_the_distance_of_eq_9_at_the_last_timestep_over_what_silence_gets():
    """By the whole network, whose UNet is not needed for it; the divisor is that of the set."""
    method = small_method()
    found, distances, silence = _errors(method, {"sam": Cells()}), {}, {"structure": [], "semantics": []}
    for key, hr in HR.items():
        batch, shown = small_batch([key], training=False), to_tensor(hr)
        mean = method.autoencoder.scaling_factor * method.autoencoder.moments(shown).chunk(2, dim=1)[0]
        features = torch.from_numpy(np.float32(Cells().extract([hr])[0]))[None]
        last = torch.tensor([method.num_train_timesteps - 1])
        noisy = method.schedule.add_noise(mean, Noise(4, 0).gaussian("noise", [key], mean.shape[1:]), last)
        encoded = method.encode(View(method._lr_up(batch), None, {}), method.condition(batch, sampling()))
        hybrid = method.predict(noisy, last, encoded, {}).aux
        halves = layer_distances(hybrid, mean, features, method.network.heads)
        nothing = layer_distances([torch.zeros_like(r) for r in hybrid], mean, features, _silent(method.network.heads))
        for half, name in (("img", "structure"), ("sem", "semantics")):
            distances[key, name] = halves[half].sum().item()
            silence[name].append(nothing[half].sum().item())
    for key, errors in found.errors().items():
        for name in silence:
            assert errors[f"{name}_error"] == pytest.approx(distances[key, name] / np.mean(silence[name]), rel=1e-4)
    assert found.names == ("structure_error", "semantics_error")
    assert _errors(method, {"sam": Cells()}, seed=5).errors() != found.errors(), "noise is that of the seed"


def _silent(heads):
    """Heads of the same channels that say nothing."""

    def says_nothing(head):
        return lambda half: half.new_zeros(len(half), head.out_channels, *half.shape[2:])

    return SimpleNamespace(**{name: [says_nothing(head) for head in getattr(heads, name)] for name in ("img", "sem")})


@pytest.mark.parametrize(("img", "sem"), [(True, False), (False, True), (False, False)])
def test_a_half_that_is_off_has_no_error(img, sem):
    method = small_method(constraint={"img": img, "sem": sem})
    found = _errors(method, {"sam": Cells()} if sem else {})
    names = [name for name, on in (("structure_error", img), ("semantics_error", sem)) if on]
    assert list(found.names) == names
    assert {key: list(errors) for key, errors in found.errors().items()} == {key: names for key in HR}


@pytest.mark.parametrize("name", NAMES)
def test_methods_without_constraints_have_no_errors(name):
    found = _errors(sibling(name), {})
    assert found.names == () and set(map(len, found.errors().values())) == {0}
