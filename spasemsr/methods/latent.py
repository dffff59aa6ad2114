"""Latent diffusion super-resolution: `forward` (losses of a batch) and `restore` (images), written once.

A method fills in what it conditions on (`training_condition`, `condition`, `unconditional`), its network (`encode`,
`predict`), its own losses, and how a tile sees a sample. One that runs a second diffusion beside the image's says in
`begin` what that is at a timestep. Shapes: B batch, C latent channels, u v pixels of lr, H W pixels of hr size, h w
latent cells, f the autoencoder's factor.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from spasemsr.diffusion.colorfix import fix_colors
from spasemsr.diffusion.sampling import guide, initial_latents, sample
from spasemsr.diffusion.schedule import Schedule
from spasemsr.diffusion.tiling import TileMap, pad_reflect, stitch, tile_grid, together, touches
from spasemsr.errors import UserError
from spasemsr.methods.perceptual import PerceptualLoss
from spasemsr.methods.protocol import Boxes, Called, Grid, Method
from spasemsr.methods.view import View
from spasemsr.pixels import bicubic_upsample

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec, ScheduleSpec
    from spasemsr.methods.noise import Noise

MULTIPLE = 64  # output sides are padded to this many pixels: 8 latent cells, three halvings of the UNet
LOGVAR_RANGE = (-30.0, 20.0)  # diffusers' clamp of the posterior's log-variance

Carry = Mapping[str, Tensor]  # what runs beside the latents, by name: (B, any, h, w), on the latents' grid


@dataclass(frozen=True)
class Prediction:
    """A call of the network: `sample` (B, C, h, w), the state it predicts, and what `side_losses` needs."""

    sample: Tensor
    carry: Carry = field(default_factory=dict)
    aux: Any = None


class LatentDiffusion(Method):
    """Base of the latent-diffusion methods; `autoencoder` is frozen and never saved."""

    reads_lr_latents = False  # whether `encode` looks at z_LR, which then has to be made in training too

    def __init__(self, autoencoder: Autoencoder, schedule: ScheduleSpec, scale: int, grid: Grid, shown: str) -> None:
        """`shown` is what the network sees of lr: `lr` enlarged by bicubic, or `restored`, the restorer's image."""
        super().__init__()
        self.autoencoder, self.grid, self.scale = autoencoder, grid, scale
        self.schedule = Schedule.of(schedule)
        self.num_train_timesteps = self.schedule.num_train_timesteps
        self.last_share = schedule.last_share
        self.perceptual = PerceptualLoss(schedule.perceptual) if schedule.perceptual else None
        self.from_lr = schedule.prediction == "residual"  # the network's output is added to z_LR
        self.sees_restored = shown == "restored"
        self.adds_to_restored = self.from_lr and self.sees_restored

    # What a method fills in.

    @abstractmethod
    def training_condition(self, batch: Batch, noise: Noise, noisy_latents_BChw: Tensor, timesteps_B: Tensor) -> Any:
        """The conditions of a training batch, some of them dropped."""

    @abstractmethod
    def condition(self, batch: Batch, sampling: SampleSpec) -> Any:
        """The conditions of a batch at inference."""

    @abstractmethod
    def unconditional(self, batch: Batch, sampling: SampleSpec) -> Any:
        """The conditions of guidance's other branch."""

    @abstractmethod
    def encode(self, view: View, condition: Any) -> Any:
        """Everything that does not depend on the timestep."""

    def begin(self, batch: Batch, noise: Noise, timesteps_B: Tensor, predicted: Carry | None = None) -> Carry:
        """The state that runs beside the latents, at these timesteps; nothing for most methods.

        In training and at the first step of sampling `predicted` is None and the state is drawn; at a later step it
        follows from what the network predicted at the step before. Its tensors keep names and shapes.
        """
        return {}

    @abstractmethod
    def predict(
        self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Any, carry: Carry, scale: float = 1.0
    ) -> Prediction:
        """The network; `scale` is the weight of what conditions it."""

    @abstractmethod
    def side_losses(self, prediction: Prediction, latents_ref_BChw: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The method's losses beside the diffusion loss, weights applied."""

    # What all share.

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """L_SD = mean (target - prediction)^2 at a uniform timestep, and the method's own losses."""
        latents_ref, latents = self._training_latents(batch, noise)
        timesteps = self._training_timesteps(batch, noise).to(latents.device)
        eps = noise.gaussian("noise", batch.keys, latents.shape[1:]).to(latents)
        noisy = self.schedule.add_noise(latents, eps, timesteps)
        lr_up = self._lr_up(batch)
        lr_latents = self._lr_latents(lr_up) if self.from_lr or self.reads_lr_latents else None
        condition = self.training_condition(batch, noise, noisy, timesteps)
        encoded = self.encode(View(lr_up, lr_latents, batch.features), condition)
        prediction = self.predict(noisy, timesteps, encoded, self.begin(batch, noise, timesteps))
        target = self.schedule.target(latents, eps, timesteps)
        if self.from_lr:
            target = target - lr_latents
        predicted = prediction.sample.float()
        losses = {"diffusion": functional.mse_loss(predicted, target)}
        if self.perceptual is not None:
            alone = timesteps == self.num_train_timesteps - 1  # one step from there is a whole sampling
            losses["perceptual"] = predicted.sum() * 0.0  # where there is none; every process has the same graph
            if alone.any():
                missing = target - predicted
                shown = lr_up[alone], None if lr_latents is None else lr_latents[alone]
                made, hr = self._image((latents - missing)[alone], *shown), self._image(latents[alone], *shown)
                losses["perceptual"] = self.perceptual(made, hr, len(latents))
        return losses | self.side_losses(prediction, latents_ref, batch)

    def _training_latents(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Scaled posterior mean (the reference of eq. 9) and a scaled sample (z_0), (B, C, h, w) each."""
        assert batch.moments is not None, "training needs the latents column"
        mean, logvar = batch.moments.chunk(2, dim=1)
        std = torch.exp(0.5 * logvar.clamp(*LOGVAR_RANGE))
        drawn = noise.gaussian("posterior", batch.keys, mean.shape[1:]).to(mean)
        factor = self.autoencoder.scaling_factor
        return factor * mean, factor * (mean + std * drawn)

    def _training_timesteps(self, batch: Batch, noise: Noise) -> Tensor:
        """(B,) int64: uniform on all timesteps, but for the share that is moved to the last one."""
        steps = self.num_train_timesteps
        return noise.timesteps(batch.keys, round(steps / (1.0 - self.last_share))).clamp(max=steps - 1)

    def _lr_up(self, batch: Batch) -> Tensor:
        """lr at hr's size, (B, 3, H, W), as the network is shown it: by bicubic, or cleaned by the restorer."""
        if not self.sees_restored:
            return bicubic_upsample(batch.lr, self.scale)
        assert batch.restored is not None, "this model needs the restored column"
        return batch.restored

    @torch.no_grad()
    def _lr_latents(self, lr_up_B3HW: Tensor) -> Tensor:
        """z_LR: the scaled posterior mean of what the network is shown."""
        with torch.autocast(lr_up_B3HW.device.type, enabled=False):  # as exact in training as in sampling
            return self.autoencoder.scaling_factor * self.autoencoder.moments(lr_up_B3HW).chunk(2, dim=1)[0]

    @torch.no_grad()
    def restore(
        self,
        batch: Batch,
        noise: Noise,
        sampling: SampleSpec,
        run_tiles: TileMap = map,
        called: Called | None = None,
        boxes: Boxes | None = None,
    ) -> Tensor:
        """lr of any size, (B, 3, u, v) -> (B, 3, H, W) in [0, 1]: LR start, guided solver, decoding, colour fix.

        Raises UserError for a `share` below 1 where the network predicts no residual.
        """
        if sampling.share < 1.0 and not self.from_lr:
            remedy = "Set it to 1, or train with model.schedule.prediction: residual."
            raise UserError(f"sample.share = {sampling.share:g}: this model does not add to what it is shown.", remedy)
        lr_up = self._lr_up(batch)
        height, width = lr_up.shape[-2:]
        padded = pad_reflect(lr_up, MULTIPLE)
        lr_latents = self._lr_latents(padded)
        features = {name: self._padded(name, value, height, padded) for name, value in batch.features.items()}
        view = View(padded, lr_latents, features)
        start = noise.gaussian("start", batch.keys, lr_latents.shape[1:]).to(lr_latents)
        if sampling.steps > 1 or self.grid.learned:
            boxes = None  # at a second step, and in a learned decoder, a pixel depends on cells farther away
        network = TiledNetwork(self, batch, view, (height, width), noise, sampling, run_tiles, called, boxes)
        latents = sample(
            network,
            initial_latents(self.schedule, sampling, lr_latents, start),
            self.schedule,
            sampling,
            lambda index: noise.gaussian(f"solver/{index}", batch.keys, lr_latents.shape[1:]),
        )
        with torch.autocast(latents.device.type, enabled=False):
            restored = self._image(latents, padded, lr_latents)
        restored = restored[..., :height, :width]
        return fix_colors(sampling.colorfix, restored, bicubic_upsample(batch.lr, self.scale))

    def _image(self, latents_BChw: Tensor, lr_up_B3HW: Tensor, lr_latents_BChw: Tensor | None) -> Tensor:
        """Latents decoded; what the network adds to keeps the detail that the autoencoder has no room for."""
        decoded = self._decoded(latents_BChw)
        if not self.from_lr:
            return decoded
        assert lr_latents_BChw is not None
        return decoded + lr_up_B3HW - self._decoded(lr_latents_BChw)

    def _decoded(self, latents_BChw: Tensor) -> Tensor:
        return self.autoencoder.decode(latents_BChw.float() / self.autoencoder.scaling_factor)

    def _padded(self, name: str, value: Tensor, height: int, padded_B3HW: Tensor) -> Tensor:
        """A feature map grown as the picture was, to a whole number of values for each latent cell."""
        if value.ndim != 4:
            return value
        each = max(round(value.shape[-2] * self.grid.cell / height), 1)
        grown = pad_reflect(value, MULTIPLE // self.grid.cell * each)
        wanted = [side // self.grid.cell * each for side in padded_B3HW.shape[-2:]]
        if list(grown.shape[-2:]) != wanted:
            raise ValueError(
                f"feature {name!r} is a map of {tuple(value.shape[-2:])} values: no whole number for each latent cell"
            )
        return grown

    def calls(self, height: int, width: int, sampling: SampleSpec) -> int:
        """One for each group of tiles, step and branch of guidance, of one picture."""
        rows, columns = (-(-side * self.scale // MULTIPLE) * MULTIPLE // self.grid.cell for side in (height, width))
        calls = len(together(tile_grid(rows, columns, sampling.tile, sampling.tile_overlap), 1))
        return calls * sampling.steps * (1 if sampling.guidance == 1.0 else 2)


class TiledNetwork:
    """The guided network over all tiles as a function of latents and timestep; conditions are encoded once per tile.

    It remembers the state that runs beside the latents, so timesteps must be taken in order, each once.
    """

    def __init__(
        self,
        method: LatentDiffusion,
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

        def seen(window: View, index: int) -> Batch:
            shown = replace(batch, features=dict(window.features))
            return method.in_tile(shown, self._tiles[index], size[0] / cell, size[1] / cell)

        def encode(group: int) -> tuple[Any, Any]:
            indices = self._groups[group]
            windows = [view.in_tile(self._tiles[index], rows) for index in indices]
            shown = _one_after_the_other([seen(window, index) for window, index in zip(windows, indices, strict=True)])
            window = View.joined(windows)
            encoded = method.encode(window, method.condition(shown, sampling))
            if sampling.guidance == 1.0:
                return encoded, None
            return encoded, method.encode(window, method.unconditional(shown, sampling))

        # The first alone, because a text encoder may load itself when it is first asked.
        branches = chain(map(encode, self._asked[:1]), run_tiles(encode, self._asked[1:]))
        self._branches = dict(zip(self._asked, branches, strict=True))

    def __call__(self, latents_BChw: Tensor, timestep: int) -> Tensor:
        """(B, C, h, w) -> what the solver takes: the weighted mean over tiles, guided."""
        method, sampling, size = self._method, self._sampling, len(latents_BChw)
        timesteps = torch.full((size,), timestep, device=latents_BChw.device)
        carry = method.begin(self._batch, self._noise, timesteps, self._predicted)

        def in_tiles(value_BChw: Tensor, group: range) -> Tensor:
            return torch.cat([self._tiles[index].crop(value_BChw) for index in group])

        def predict(group: int) -> tuple[Tensor, Carry]:
            encoded, other = self._branches[group]
            indices = self._groups[group]
            window, times = in_tiles(latents_BChw, indices), timesteps.repeat(len(indices))
            beside = {name: in_tiles(value, indices) for name, value in carry.items()}
            conditional = method.predict(window, times, encoded, beside, sampling.conditioning_scale)
            self._called()
            found = conditional.sample.float()
            if other is not None:
                unconditional = method.predict(window, times, other, beside, sampling.conditioning_scale)
                self._called()
                found = guide(found, unconditional.sample.float(), sampling.guidance)
            return found, conditional.carry

        def nothing(group: range) -> tuple[Tensor, Carry]:
            for _ in range(1 if sampling.guidance == 1.0 else 2):
                self._called()
            return in_tiles(torch.zeros_like(latents_BChw), group), {
                name: in_tiles(value, group) for name, value in carry.items()
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
        features={name: torch.cat([batch.features[name] for batch in batches]) for name in first.features},
        restored=None,
    )
