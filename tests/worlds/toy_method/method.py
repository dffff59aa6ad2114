"""Bicubic and what two convolutions add to it."""

import torch
from torch import nn
from torch.nn import functional

from spasemsr.methods.face import Traced
from spasemsr.methods.protocol import Grid, Method
from spasemsr.pixels import bicubic_upsample


class Toy(Method):
    """Learns hr, and its mean colours."""

    grid = Grid(channels=3, cell=1, width=4, learned=False)
    num_train_timesteps = 1

    def __init__(self, spec, scale):
        super().__init__()
        self.columns, self.restore_columns, self.scale = spec.columns, spec.restore_columns, scale
        self.layers = nn.Sequential(nn.Conv2d(3, spec.width, 3, padding=1), nn.SiLU(), nn.Conv2d(spec.width, 3, 1))

    def trainable(self):
        return {"layers": self.layers}

    def forward(self, batch, noise):
        restored = self._enlarged(batch.lr)
        cells = batch.features["colour"]
        return {
            "pixels": functional.mse_loss(restored, batch.hr),
            "colours": functional.mse_loss(functional.adaptive_avg_pool2d(restored, cells.shape[-2:]), cells),
        }

    @torch.no_grad()
    def restore(self, batch, noise, sampling, run_tiles=map, called=None, boxes=None):
        restored = self._enlarged(batch.lr).clamp(0, 1)
        if called is not None:
            called()
        return restored

    def calls(self, height, width, sampling):
        return 1

    def in_tile(self, batch, tile, height, width):
        return batch

    def _enlarged(self, lr):
        large = bicubic_upsample(lr, self.scale)
        return large + 0.1 * self.layers(large)


class ToyTraced(Traced):
    """The network alone."""

    def __init__(self, spec, side):
        self.network, self._side = Toy(spec, 4), side

    def trainable(self):
        return self.network.trainable()

    def checkpoint(self, on):
        pass

    def loss(self, samples):
        return self.network._enlarged(torch.rand(samples, 3, self._side // 4, self._side // 4)).square().mean()
