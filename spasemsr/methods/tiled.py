"""The guided network over the tiles of a picture, as the function of latents and timestep that a solver calls.

Conditions are encoded once per tile. B batch, C latent channels, h w latent cells.

What a person says of a place (`Batch.said`) counts more than what was found, and there alone: as in semantic guidance
(SEGA: Brack et al. 2023) the network is asked again, and what it predicts is f + emphasis * M * (s - k), with f what it
makes of the objects found, s of those said, k of these with the words that were found in the places of new ones
(`as_known`), so that nothing but words differs, and M the share of a cell inside the boxes that were not found. It
counts whole, however little is added of what the network says by itself (`sample.share`), unless that is nothing. Where
one step is all of sampling every bit outside of these is that of f. The nano network alone follows a word by 0.1 to 0.2
dB. What a texture is called says nothing of colours: where channels tell detail from colour, detail alone changes, and
at most half of what is there is taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from spasemsr.data.dataset import joined_said, new
from spasemsr.diffusion.coverage import covered
from spasemsr.diffusion.sampling import guide
from spasemsr.diffusion.tiling import Tile, TileMap, stitch, tile_grid, together, touches
from spasemsr.methods.prediction import Carry, Prediction
from spasemsr.methods.said import as_known, followed
from spasemsr.methods.view import View

if TYPE_CHECKING:
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.methods.noise import Noise
    from spasemsr.methods.protocol import Boxes, Called, Grid


class Denoiser(Protocol):
    """What a latent method does in a tile, see `LatentDiffusion`."""

    grid: Grid
    from_lr: bool

    @property
    def detail(self) -> Tensor | None: ...

    def condition(self, batch: Batch, sampling: SampleSpec) -> Any: ...

    def unconditional(self, batch: Batch, sampling: SampleSpec) -> Any: ...

    def encode(self, view: View, condition: Any) -> Any: ...

    def begin(self, batch: Batch, noise: Noise, timesteps_B: Tensor, predicted: Carry | None = None) -> Carry: ...

    def predict(
        self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Any, carry: Carry, scale: float = 1.0
    ) -> Prediction: ...

    def in_tile(self, batch: Batch, tile: Tile, height: float, width: float) -> Batch: ...


@dataclass(frozen=True)
class Branches:
    """A group of tiles, encoded: as found, without conditions (for guidance), as a person says.

    Beside the last one what it is compared with, and what their difference counts.
    """

    found: Any
    without: Any
    said: tuple[Any, Any, Tensor] | None


class TiledNetwork:
    """The guided network over all tiles as a function of latents and timestep; conditions are encoded once per tile.

    It remembers the state that runs beside the latents, so timesteps must be taken in order, each once.
    """

    def __init__(
        self,
        method: Denoiser,
        batch: Batch,
        view: View,
        size: tuple[int, int],
        noise: Noise,
        sampling: SampleSpec,
        run_tiles: TileMap,
        called: Called | None,
        boxes: Boxes | None,
    ) -> None:
        """`view` is padded, `size` the picture's own height and width; tiles are left out that touch no box."""
        self._method, self._batch, self._noise, self._sampling = method, batch, noise, sampling
        self._run_tiles, self._called, self._lr_latents = run_tiles, called or (lambda: None), view.lr_latents_BChw
        self._predicted: Carry | None = None
        cell = method.grid.cell
        rows, columns = (side // cell for side in view.lr_up_B3HW.shape[-2:])
        self._tiles = tile_grid(rows, columns, sampling.tile, sampling.tile_overlap)
        self._groups = together(self._tiles, len(batch.keys))
        self._asked = [
            number
            for number, group in enumerate(self._groups)
            if boxes is None or any(touches(self._tiles[index], box, cell) for index in group for box in boxes)
        ]

        strength = sampling.emphasis if sampling.share else 0.0  # where nothing is added, words add nothing
        self._emphasis = _emphasis(batch, strength, (rows, columns), (size[0] / cell, size[1] / cell), view)

        known = replace(batch, objects=list(map(as_known, batch.said, batch.objects)), said=[])

        def seen(window: View, index: int, batch: Batch = batch) -> Batch:
            shown = replace(batch, features=dict(window.features))
            return method.in_tile(shown, self._tiles[index], size[0] / cell, size[1] / cell)

        def encode(group: int) -> Branches:
            indices = self._groups[group]
            windows = [view.in_tile(self._tiles[index], rows) for index in indices]
            places = list(zip(windows, indices, strict=True))
            shown = _one_after_the_other([seen(*place) for place in places])
            window = View.joined(windows)

            def encoded(condition: Any) -> Any:
                return method.encode(window, condition)

            weights = self._weights(indices, shown)
            said = None
            if weights is not None:
                heard = replace(shown, objects=shown.said, said=[])
                compared = _one_after_the_other([seen(*place, known) for place in places])
                said = *(encoded(method.condition(each, sampling)) for each in (heard, compared)), weights
            without = None if sampling.guidance == 1.0 else encoded(method.unconditional(shown, sampling))
            return Branches(encoded(method.condition(shown, sampling)), without, said)

        # The first alone, because a text encoder may load itself when it is first asked.
        branches = chain(map(encode, self._asked[:1]), run_tiles(encode, self._asked[1:]))
        self._branches = dict(zip(self._asked, branches, strict=True))

    def _weights(self, group: range, shown: Batch) -> Tensor | None:
        """What the change by what is said counts in each cell of these tiles, (B, 1, h, w), or None for nothing at all.

        Nothing where a tile holds too little of a box for its words to be among those of the tile.
        """
        if self._emphasis is None:
            return None
        heard = [bool(new(said, found).any()) for said, found in zip(shown.said, shown.objects, strict=True)]
        weights = self._in_tiles(self._emphasis, group)
        weights = weights * torch.tensor(heard, device=weights.device)[:, None, None, None]
        return weights if weights.any() else None

    def _in_tiles(self, value_BChw: Tensor, group: range) -> Tensor:
        """Tile after tile of a group, each of the whole batch."""
        return torch.cat([self._tiles[index].crop(value_BChw) for index in group])

    def __call__(self, latents_BChw: Tensor, timestep: int) -> Tensor:
        """(B, C, h, w) -> what the solver takes: the weighted mean over tiles, guided."""
        method, sampling, size = self._method, self._sampling, len(latents_BChw)
        timesteps = torch.full((size,), timestep, device=latents_BChw.device)
        carry = method.begin(self._batch, self._noise, timesteps, self._predicted)

        def predict(group: int) -> tuple[Tensor, Carry]:
            branches = self._branches[group]
            indices = self._groups[group]
            window, times = self._in_tiles(latents_BChw, indices), timesteps.repeat(len(indices))
            beside = {name: self._in_tiles(value, indices) for name, value in carry.items()}
            conditional = method.predict(window, times, branches.found, beside, sampling.conditioning_scale)
            self._called()
            found = conditional.sample.float()
            if branches.without is not None:
                unconditional = method.predict(window, times, branches.without, beside, sampling.conditioning_scale)
                self._called()
                found = guide(found, unconditional.sample.float(), sampling.guidance)
            if branches.said is not None:
                heard, compared, weights = branches.said
                said, known = (
                    method.predict(window, times, each, beside, sampling.conditioning_scale).sample.float()
                    for each in (heard, compared)
                )
                if method.from_lr:  # of the residual `share` is added in the end, of what a person says all
                    shown = self._in_tiles(self._lr_latents, indices)
                    there = sampling.share * found + shown
                    change = followed(there, said + shown, known + shown, weights, method.detail) / sampling.share
                else:
                    change = weights * (said - known) * (1.0 if method.detail is None else method.detail)
                found = found + change
            return found, conditional.carry

        def nothing(group: range) -> tuple[Tensor, Carry]:
            for _ in range(1 if sampling.guidance == 1.0 else 2):
                self._called()
            return self._in_tiles(torch.zeros_like(latents_BChw), group), {
                name: self._in_tiles(value, group) for name, value in carry.items()
            }

        answers = dict(zip(self._asked, self._run_tiles(predict, self._asked), strict=True))
        found = [answers.get(number) or nothing(group) for number, group in enumerate(self._groups)]

        def stitched(like: Tensor, groups: Iterable[Tensor]) -> Tensor:
            return stitch(like, self._tiles, (tile for group in groups for tile in group.split(size)))

        predicted = stitched(latents_BChw, (sample for sample, _ in found))
        self._predicted = {
            name: stitched(value, (carried[name] for _, carried in found)) for name, value in carry.items()
        }
        return sampling.share * predicted + self._lr_latents if method.from_lr else predicted


def _one_after_the_other(batches: Sequence[Batch]) -> Batch:
    """Batches joined as far as conditions read them: strings, boxes and features; pixels are the view's business."""
    first = batches[0]
    if len(batches) == 1:
        return first
    return replace(
        first,
        keys=[key for batch in batches for key in batch.keys],
        objects=[objects for batch in batches for objects in batch.objects],
        captions=[caption for batch in batches for caption in batch.captions],
        said=joined_said(batches),
        features={name: torch.cat([batch.features[name] for batch in batches]) for name in first.features},
        restored=None,
    )


def _emphasis(
    batch: Batch, strength: float, grid: tuple[int, int], extent: tuple[float, float], view: View
) -> Tensor | None:
    """`strength` times the share of each cell inside boxes that are said and were not found, (B, 1, h, w), if any are.

    The picture is `extent` (height, width) cells large, without what pads it to `grid` (rows, columns).
    """
    if not batch.said or not strength:
        return None
    weights = torch.zeros(len(batch.keys), 1, *grid)
    for index, (said, found) in enumerate(zip(batch.said, batch.objects, strict=True)):
        if len(boxes := said.boxes[new(said, found)]):
            inside = covered(torch.from_numpy(boxes)[None], *grid, *extent)
            weights[index, 0] = strength * inside[0].amax(dim=0)
    return weights.to(view.lr_up_B3HW.device) if weights.any() else None
