"""Latent diffusion super-resolution: `forward` (losses of a batch) and `restore` (images), written once.

A method fills in what it conditions on (`training_condition`, `condition`, `unconditional`), its network (`encode`,
`predict`), its own losses, and how a tile sees a sample. One that runs a second diffusion beside the image's says in
`begin` what that is at a timestep. Shapes: B batch, C latent channels, u v pixels of lr, H W pixels of hr size, h w
latent cells, f the autoencoder's factor.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from spasemsr.diffusion.colorfix import fix_colors
from spasemsr.diffusion.sampling import initial_latents, sample
from spasemsr.diffusion.schedule import Schedule
from spasemsr.diffusion.tiling import TileMap, pad_reflect, tile_grid, together
from spasemsr.errors import UserError
from spasemsr.methods.perceptual import PerceptualLoss
from spasemsr.methods.prediction import Carry, Prediction
from spasemsr.methods.protocol import Boxes, Called, Grid, Method
from spasemsr.methods.tiled import TiledNetwork
from spasemsr.methods.view import View
from spasemsr.pixels import bicubic_upsample

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec, ScheduleSpec
    from spasemsr.methods.noise import Noise

MULTIPLE = 64  # output sides are padded to this many pixels: 8 latent cells, three halvings of the UNet
STRIP = 32  # rows of latent cells
LOGVAR_RANGE = (-30.0, 20.0)  # diffusers' clamp of the posterior's log-variance


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

    @property
    def detail(self) -> Tensor | None:
        """(1, C, 1, 1): 1 for channels of detail, where the autoencoder tells it from colour, on its device."""
        return getattr(self.autoencoder, "detail", None)

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
        lr_latents = self._latents_in_strips(padded, run_tiles)
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
        restored = self._image_in_strips(latents, padded, lr_latents, run_tiles)[..., :height, :width]
        own_colours = sampling.colorfix == "none"
        return fix_colors(
            sampling.colorfix, restored, restored if own_colours else bicubic_upsample(batch.lr, self.scale)
        )

    def _latents_in_strips(self, lr_up_B3HW: Tensor, run_strips: TileMap) -> Tensor:
        """`_lr_latents`, strip by strip where every cell is encoded alone."""
        if self.grid.learned:
            return self._lr_latents(lr_up_B3HW)
        rows = STRIP * self.grid.cell

        def strip(first: int) -> Tensor:
            return self._lr_latents(lr_up_B3HW[:, :, first : first + rows])

        return torch.cat(list(run_strips(strip, range(0, lr_up_B3HW.shape[2], rows))), dim=2)

    def _image_in_strips(
        self, latents_BChw: Tensor, lr_up_B3HW: Tensor, lr_latents_BChw: Tensor, run_strips: TileMap
    ) -> Tensor:
        """`_image`, strip by strip where every cell is decoded alone: 4000x2800 are 134 MB at every step."""
        if self.grid.learned:
            return self._image(latents_BChw, lr_up_B3HW, lr_latents_BChw)
        image = torch.empty_like(lr_up_B3HW, memory_format=torch.contiguous_format)

        def strip(first: int) -> None:
            cells, rows = (slice(first * size, (first + STRIP) * size) for size in (1, self.grid.cell))
            shown = lr_up_B3HW[:, :, rows], lr_latents_BChw[:, :, cells]
            image[:, :, rows] = self._image(latents_BChw[:, :, cells], *shown)

        for _ in run_strips(strip, range(0, latents_BChw.shape[2], STRIP)):
            pass
        return image

    def _image(self, latents_BChw: Tensor, lr_up_B3HW: Tensor, lr_latents_BChw: Tensor | None) -> Tensor:
        """Latents decoded; what the network adds to keeps the detail that the autoencoder has no room for."""
        decoded = self._decoded(latents_BChw)
        if not self.from_lr:
            return decoded
        assert lr_latents_BChw is not None
        return decoded + lr_up_B3HW - self._decoded(lr_latents_BChw)

    def _decoded(self, latents_BChw: Tensor) -> Tensor:
        with torch.autocast(latents_BChw.device.type, enabled=False):  # as exact in training as in sampling
            return self.autoencoder.decode(latents_BChw.float() / self.autoencoder.scaling_factor)

    def _padded(self, name: str, value: Tensor, height: int, padded_B3HW: Tensor) -> Tensor:
        """A feature map grown as the picture was, to a whole number of values for each latent cell."""
        if value.ndim != 4:
            return value
        one = value.shape[-2] <= -(-height // self.grid.cell)
        each = 1 if one else round(value.shape[-2] * self.grid.cell / height)
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
