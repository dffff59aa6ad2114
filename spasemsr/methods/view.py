"""What a network is shown of a picture, whole or in tiles.

Shapes: B batch, C latent channels, H W pixels of hr size, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from spasemsr.diffusion.tiling import Tile


@dataclass(frozen=True)
class View:
    """What a network is shown of a picture, or of a tile of it.

    `features` are those of the batch; one of four dimensions is a map of the picture, with a whole number of its values
    for each latent cell, any other is about the picture as a whole. `lr_latents` is z_LR, or None in training where the
    method does not read it.
    """

    lr_up_B3HW: Tensor
    lr_latents_BChw: Tensor | None
    features: Mapping[str, Tensor]

    @classmethod
    def joined(cls, views: Sequence[View]) -> View:
        """Views of equal size, one after the other."""
        latents = [view.lr_latents_BChw for view in views if view.lr_latents_BChw is not None]
        return cls(
            torch.cat([view.lr_up_B3HW for view in views]),
            torch.cat(latents) if latents else None,
            {name: torch.cat([view.features[name] for view in views]) for name in views[0].features},
        )

    def in_tile(self, tile: Tile, rows: int) -> View:
        """The window of a tile; `rows` are the latent cells of the whole picture from top to bottom."""
        maps = {name: value for name, value in self.features.items() if value.ndim == 4}
        return View(
            tile.crop(self.lr_up_B3HW, self.lr_up_B3HW.shape[-2] // rows),
            None if self.lr_latents_BChw is None else tile.crop(self.lr_latents_BChw),
            {**self.features, **{name: tile.crop(value, value.shape[-2] // rows) for name, value in maps.items()}},
        )
