"""DAPE: the student starts as its teacher, learns in thin layers alone, and is stored in the teacher's layout."""

from dataclasses import replace

import pytest
import torch

from spasemsr.backends.networks.lora import add_lora
from spasemsr.backends.networks.ram import load_ram
from spasemsr.methods.noise import Noise
from spasemsr.pixels import bicubic_upsample
from spasemsr.students.columns import LOGITS, ROWS
from spasemsr.students.ram import RamPupil
from spasemsr.students.student import Student
from tests.worlds.small_methods import small_batch
from tests.worlds.tiny_vision import RAM, write_ram

NOISE = Noise(0, 0)


@pytest.fixture
def dape(tmp_path) -> Student:
    write_ram(tmp_path / "ram.pth")
    pupil = RamPupil(load_ram(tmp_path / "ram.pth", RAM), RAM.image_size, rank=8)
    return Student(pupil, scale=4, shown="lr", column="teacher")


@torch.no_grad()
def _taught(dape, batch, lr):
    """The batch with the teacher's answers for another picture."""
    return replace(batch, features=dape.pupil.answers(bicubic_upsample(lr, 4)))


def test_a_student_that_sees_hr_is_its_teacher(dape):
    batch = small_batch()
    taught = _taught(dape, batch, batch.lr)
    losses = dape(taught, NOISE)
    assert losses["representation"].item() == 0.0
    probabilities = torch.sigmoid(taught.features[LOGITS])
    entropy = torch.nn.functional.binary_cross_entropy(probabilities, probabilities)
    assert losses["tags"].item() == pytest.approx(entropy.item(), rel=1e-5)


def test_only_the_thin_layers_learn_and_they_do(dape):
    batch = small_batch()
    batch = _taught(dape, batch, batch.lr)
    batch.features[ROWS].mul_(1.5)  # the teacher sees half as much again
    trained = dict(torch.nn.ModuleDict(dape.trainable()).named_parameters())
    assert {p for p in dape.parameters() if p.requires_grad} == set(trained.values())
    assert len(trained) == 2 * (8 * 2 + 2 * 4)  # eight blocks of two layers, two layers of the head of four
    recogniser = dape.pupil.recogniser
    before = {name: p.detach().clone() for name, p in recogniser.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=2e-3)
    curve = []
    for _ in range(15):
        losses = dape(batch, NOISE)
        optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        optimizer.step()
        curve.append(losses["representation"].item())
    assert curve[-1] < 0.8 * curve[0], curve
    found = dict(recogniser.named_parameters())
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
    assert all(p.grad is not None for p in trained.values())


def test_extreme_logits_give_finite_losses_and_gradients(dape):
    batch = small_batch()
    batch = _taught(dape, batch, batch.lr)
    extreme = replace(batch, features={**batch.features, LOGITS: torch.full_like(batch.features[LOGITS], -1e4)})
    with torch.no_grad():
        dape.pupil.recogniser.fc.bias.fill_(1e4)
    loss = sum(dape(extreme, NOISE).values())
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in torch.nn.ModuleDict(dape.trainable()).parameters())


def test_a_name_that_chooses_nothing_is_an_error():
    with pytest.raises(ValueError, match="no linear layer"):
        add_lora(torch.nn.Sequential(torch.nn.Linear(2, 2)), 1, lambda name: name == "head")
