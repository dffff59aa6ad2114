"""SegSR's two diffusions: each direction of the bridge, the clock, the first prediction, given labels, the loss."""

from dataclasses import replace

import pytest
import torch

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.methods.noise import Noise
from spasemsr.methods.segsr.method import SEGMENTS
from tests.worlds.siblings import sibling, sibling_batch

NOISE = Noise(5, 0)
SAMPLING = SampleSpec.model_validate({"solver": "ddpm", "steps": 4, "guidance": 1.0, "colorfix": "none"})


class Watched:
    """What a method predicted at every step of sampling."""

    def __init__(self, built, batch):
        self.labels, self.states, inner = [], [], built.predict

        def predict(latents, timesteps, encoded, carry, scale=1.0):
            prediction = inner(latents, timesteps, encoded, carry, scale)
            self.states.append(carry.get(SEGMENTS))
            self.labels.append(prediction.carry.get(SEGMENTS))
            return prediction

        built.predict = predict
        self.picture = built.restore(batch, NOISE, SAMPLING)
        del built.predict


def _watched(**changes):
    built = sibling("segsr", **changes).eval()
    return Watched(built, sibling_batch("segsr", built, training=False))


@pytest.fixture(scope="module")
def coupled():
    return _watched()


def test_without_labels_in_the_image_the_picture_changes(coupled):
    assert not torch.equal(_watched(to_image=False).picture, coupled.picture)


def test_without_the_image_in_the_labels_both_change(coupled):
    apart = _watched(to_labels=False)
    assert not torch.equal(apart.labels[-1], coupled.labels[-1])


def test_with_both_directions_off_each_branch_runs_alone():
    neither, image = _watched(to_image=False, to_labels=False), _watched(labels="none")
    assert torch.equal(neither.picture, image.picture)
    built = sibling("segsr", to_image=False, to_labels=False).eval()
    batch = sibling_batch("segsr", built, training=False)
    other = replace(batch, lr=batch.lr.flip(-1))  # another image, the same features of the segmenter
    assert torch.equal(Watched(built, other).labels[-1], neither.labels[-1])


def test_labels_begin_as_noise_and_end_as_predicted(coupled):
    first, last = coupled.states[0], coupled.states[-1]
    counts = first.sum((0, 2, 3)) / first.sum()
    assert counts.max() < 0.2  # of 16 classes
    agree = (last.argmax(1) == coupled.labels[-2].argmax(1)).float().mean()
    assert agree > 0.9  # the last of four steps is at t = 1, where nearly every label stays


def test_the_state_of_training_is_what_the_clock_says():
    built = sibling("segsr")
    batch = sibling_batch("segsr", built)
    ends = built.begin(batch, NOISE, torch.tensor([0, 999]))[SEGMENTS].argmax(1)
    labels = batch.features["labels"][:, 0].long()
    assert (ends[1] == labels[1]).float().mean() < 0.3  # pure noise
    again = built.begin(batch, NOISE, torch.tensor([0, 500]))[SEGMENTS].argmax(1)
    assert torch.equal(again[0], ends[0])  # a sample's draw does not depend on its batch


def test_early_steps_are_trained_on_the_networks_own_first_labels():
    """The head is made to answer class 3 always: at t = 0 the state is 3 everywhere, whatever hr's labels are."""
    built = sibling("segsr")
    with torch.no_grad():
        built.network.head.weight.zero_()
        built.network.head.bias.copy_(torch.nn.functional.one_hot(torch.tensor(3), 16).float())
    batch = sibling_batch("segsr", built)
    state = built.begin(batch, NOISE, torch.tensor([0, 0]))[SEGMENTS]
    assert (state.argmax(1) == 3).float().mean() > 0.99
    assert not state.requires_grad


def test_given_labels_replace_the_diffusion():
    hr = sibling("segsr", labels="hr").eval()
    batch = sibling_batch("segsr", hr)
    other = replace(batch, features={**batch.features, "labels": 15 - batch.features["labels"]})
    with torch.no_grad():
        one, two = (hr(b, NOISE) for b in (batch, other))
    assert set(one) == {"diffusion"}
    assert not torch.equal(one["diffusion"], two["diffusion"])


def test_labels_can_be_learned():
    built = sibling("segsr", redrawn=False)
    batch = sibling_batch("segsr", built)
    optimizer = torch.optim.AdamW([p for part in built.trainable().values() for p in part.parameters()], lr=3e-3)
    curve = []
    for step in range(12):
        loss = built(batch, Noise(5, step))["labels"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    assert sum(curve[-3:]) < 0.8 * sum(curve[:3]), curve
