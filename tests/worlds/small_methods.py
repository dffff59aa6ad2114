"""A whole SpaSemSR of tiny widths with tiny backends, and batches for it, for the tests of methods and training."""

import hashlib
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from spasemsr.backends.protocols import TextStates
from spasemsr.data.dataset import Batch, Objects
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.methods.protocol import Trainable
from spasemsr.methods.spasemsr.method import SpaSemSR
from spasemsr.methods.spasemsr.spec import ModelSpec
from spasemsr.randomness import derive_seed
from tests.worlds.small_networks import PICO, redraw_zeros

SCALE, CHANNELS, FEATURES = 4, 4, 8


class PooledAutoencoder:
    """Latents are 8x8 means of R, G, B and grey, decoded by repetition; a fixed posterior deviation."""

    channels, downscale, scaling_factor = CHANNELS, 8, 0.5

    def moments(self, images_B3HW):
        colours = functional.avg_pool2d(images_B3HW * 2 - 1, 8)
        mean = torch.cat([colours, colours.mean(1, keepdim=True)], dim=1)
        return torch.cat([mean, torch.full_like(mean, -4.0)], dim=1)

    def decode(self, latents_BChw):
        return functional.interpolate((latents_BChw[:, :3] + 1) / 2, scale_factor=8.0).clamp(0, 1)


class WordEncoder:
    """One fixed vector per word between BOS and EOS; EOS depends on the whole string, as in a causal encoder."""

    width, length = 32, 10

    def __init__(self):
        self.seen = []  # every list of texts it was given

    def encode(self, texts):
        self.seen.append(list(texts))
        states, mask = torch.zeros(len(texts), self.length, self.width), torch.zeros(len(texts), self.length)
        for row, text in enumerate(texts):
            words = ["<bos>", *text.replace(",", " ").split()[: self.length - 2], f"<eos {text}>"]
            states[row, : len(words)] = torch.stack([self.vector(word) for word in words])
            mask[row, : len(words)] = 1
        return TextStates(states, mask)

    def vector(self, word):
        seed = int(hashlib.sha256(word.encode()).hexdigest()[:12], 16)
        return torch.randn(self.width, generator=torch.Generator().manual_seed(seed))


def sampling(**changes):
    """Two quick steps without guidance, but for `changes`."""
    return SampleSpec.model_validate({"solver": "dpmpp", "steps": 2, "guidance": 1.0} | changes)


def small_method(seed=0, redrawn=True, lambda_=0.5, weight=0.05, **changes):
    """SpaSemSR of tiny widths; `changes` replace fields of its ModelSpec.

    Redrawn: its zero tensors are drawn, so that every condition changes the output.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights", "spasemsr"))
        method = SpaSemSR(
            ModelSpec.model_validate(PICO | {"drop": {"text": 0, "caption": 0, "boxes": 0, "object": 0}} | changes),
            scale=SCALE,
            lambda_=lambda_,
            controlnet_weight=weight,
            autoencoder=PooledAutoencoder(),
            text_encoder=WordEncoder(),
            feature_channels=FEATURES,
        )
    if redrawn:
        redraw_zeros(method.network, scale=0.2)
    return method


class Colours(Trainable):
    """The smallest method: learns the mean colour of hr from that of lr, with noise; for tests of the trainer."""

    columns = frozenset({"lr"})

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.layers = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 3))

    def forward(self, batch, noise):
        colours = batch.lr.mean((2, 3))
        predicted = self.layers(colours + 0.1 * noise.gaussian("noise", batch.keys, (3,)))
        error = predicted - colours.flip(1)
        return {"square": error.square().mean(), "absolute": 0.1 * error.abs().mean()}

    def trainable(self):
        return {"layers": self.layers}


def objects_of(*rows):
    """Objects from (tag, box, score) rows."""
    boxes = np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4)
    return Objects([tag for tag, _, _ in rows], boxes, [score for _, _, score in rows], "test")


TWO = objects_of(("red car", (0.1, 0.2, 0.6, 0.9), 0.9), ("sky", (0.0, 0.0, 1.0, 0.4), 0.5))
MANY = objects_of(*((f"thing {i % 4}", (0.1 * i, 0.1, 0.1 * i + 0.3, 0.8), 0.9 - 0.1 * i) for i in range(7)))
NONE = objects_of()


def small_batch(keys=("a", "b"), height=16, width=16, training=True):
    """A batch of smooth random images; a sample is a function of its key alone. Sides in pixels of lr."""
    images = []
    for key in keys:
        seed = int(hashlib.sha256(key.encode()).hexdigest()[:12], 16)
        coarse = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
        images.append(functional.interpolate(coarse, (height, width), mode="bilinear"))
    lr = torch.cat(images)
    moments = PooledAutoencoder().moments(functional.interpolate(lr, scale_factor=float(SCALE))) if training else None
    described = {"a": (TWO, "blurry, noisy"), "b": (NONE, "sharp"), "c": (MANY, "blocky")}
    return Batch(
        keys=list(keys),
        lr=lr,
        objects=[described.get(key, described["a"])[0] for key in keys],
        captions=[described.get(key, described["a"])[1] for key in keys],
        moments=moments,
        features={"sam": moments[:, :FEATURES]} if training else {},
        hr=None,
    )


def rows_of(batch, index):
    """The batch of one sample."""
    pick = slice(index, index + 1)
    return replace(
        batch,
        keys=batch.keys[pick],
        lr=batch.lr[pick],
        objects=batch.objects[pick],
        captions=batch.captions[pick],
        moments=None if batch.moments is None else batch.moments[pick],
        features={name: tensor[pick] for name, tensor in batch.features.items()},
    )
