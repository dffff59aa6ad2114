"""A training of a few steps on drawn batches, and its weights in hand."""

import torch

from spasemsr.methods.noise import Noise
from spasemsr.training.optimizer import Average, build_optimizer, named_parameters
from spasemsr.training.spec import TrainSpec
from tests.worlds.small_methods import Colours, small_batch

SPEC = TrainSpec(
    steps=11, global_batch=4, lr=0.01, warmup_steps=3, ema_decay=0.9, precision="fp32", save_every=3, log_every=2
)


class Killed(BaseException):
    """Stands for the end of the process: nothing in the trainer may catch it."""


def batches(step, rank, world):
    """The share of a rank in a step's batch of four."""
    share = 4 // world
    return small_batch([f"s{step}k{i}" for i in range(rank * share, (rank + 1) * share)])


def killed_before(kill_step, given=batches):
    """The same batches, but the process "dies" when it asks for those of this step; None: it lives."""

    def until_killed(step, rank, world):
        if step == kill_step:
            raise Killed
        return given(step, rank, world)

    return until_killed


def weights_of(method):
    """Copies of the trained tensors, by name."""
    return {name: p.detach().clone() for name, p in named_parameters(method.trainable()).items()}


def equal(one, other):
    """Whether both hold the same names and bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(method=None, steps=2):
    """A method after some steps, its optimizer and its average."""
    method = method or Colours()
    optimizer = build_optimizer(method.trainable(), SPEC)
    average = Average(named_parameters(method.trainable()), 0.9)
    for step in range(steps):
        sum(method(batches(step, 0, 1), Noise(1, step)).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(step)
    return method, optimizer, average
