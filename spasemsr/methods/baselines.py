"""The rows beside a trained method: bicubic upsampling, and the restorer (the paper's DRM) on its own.

Neither has weights of this project or draws noise. Shapes: B batch, u v pixels of lr, H W = scale times that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from spasemsr.methods.protocol import Boxes, Called, Grid, Method
from spasemsr.pixels import bicubic_upsample, to_pixels, to_tensor

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Restorer
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.diffusion.tiling import Tile, TileMap
    from spasemsr.methods.noise import Noise


class Bicubic(Method):
    """lr_up itself."""

    columns = frozenset({"lr"})
    restore_columns = frozenset({"lr"})
    grid = Grid(channels=3, cell=1, width=0, learned=False)
    num_train_timesteps = 1

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """Nothing to learn."""
        return {}

    def restore(
        self,
        batch: Batch,
        noise: Noise,
        sampling: SampleSpec,
        run_tiles: TileMap = map,
        called: Called | None = None,
        boxes: Boxes | None = None,
    ) -> Tensor:
        """(B, 3, u, v) -> (B, 3, H, W) by the project's bicubic function."""
        return bicubic_upsample(batch.lr, self.scale)

    def calls(self, height: int, width: int, sampling: SampleSpec) -> int:
        """There is no network."""
        return 0

    def in_tile(self, batch: Batch, tile: Tile, height: float, width: float) -> Batch:
        """Nothing but lr is read."""
        return batch

    def trainable(self) -> dict[str, nn.Module]:
        """Nothing to save."""
        return {}


class Restored(Bicubic):
    """The `Restorer` backend on 8-bit lr, as the `restore` stage runs it."""

    def __init__(self, restorer: Restorer, scale: int) -> None:
        super().__init__(scale)
        self.restorer = restorer

    def restore(
        self,
        batch: Batch,
        noise: Noise,
        sampling: SampleSpec,
        run_tiles: TileMap = map,
        called: Called | None = None,
        boxes: Boxes | None = None,
    ) -> Tensor:
        """(B, 3, u, v) -> (B, 3, H, W) through `Restorer.restore`."""
        images = self.restorer.restore(list(to_pixels(batch.lr)), self.scale)
        return to_tensor(np.stack(images)).to(batch.lr.device)
