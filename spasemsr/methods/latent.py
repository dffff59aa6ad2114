"""Latent diffusion super-resolution: `forward` (losses of a batch) and `restore` (images), written once.

A method fills in what it conditions on (`training_condition`, `condition`, `unconditional`), its network (`encode`,
`predict`), its own losses, and how a tile sees a sample. Shapes: B batch, C latent channels, H W pixels of hr size,
h w latent cells (or pixels of lr where named lr), f the autoencoder's factor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.diffusion.colorfix import fix_colors
from spasemsr.diffusion.sampling import Predict, guide, initial_latents, sample
from spasemsr.diffusion.schedule import Schedule
from spasemsr.diffusion.tiling import Tile, TileMap, stitch, tile_grid
from spasemsr.pixels import bicubic_upsample

if TYPE_CHECKING:
    from spasemsr.backends.protocols import Autoencoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec, ScheduleSpec
    from spasemsr.methods.noise import Noise

MULTIPLE = 64  # output sides are padded to this many pixels: 8 latent cells, three halvings of the UNet
LOGVAR_RANGE = (-30.0, 20.0)  # diffusers' clamp of the posterior's log-variance


class LatentDiffusion(nn.Module, ABC):
    """Base of the latent-diffusion methods; `autoencoder` is frozen and never saved."""

    def __init__(
        self, autoencoder: Autoencoder, schedule: ScheduleSpec, spec: SampleSpec, scale: int, input_: str = "lr"
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.schedule = Schedule.of(schedule)
        self.last_share = schedule.last_share
        self.from_lr = schedule.prediction == "residual"  # the network's output is added to z_LR
        self.sees_restored = input_ == "restored"
        self.sampling = spec
        self.scale = scale
        self.run_tiles: TileMap = map  # how the tiles of one step are worked through: an upscaler may use threads

    # What a method fills in.

    @abstractmethod
    def training_condition(self, batch: Batch, noise: Noise) -> Any:
        """The conditions of a training batch, some of them dropped."""

    @abstractmethod
    def condition(self, batch: Batch) -> Any:
        """The conditions of a batch at inference."""

    @abstractmethod
    def unconditional(self, batch: Batch) -> Any:
        """The conditions of guidance's other branch."""

    @abstractmethod
    def encode(self, lr_up_B3HW: Tensor, condition: Any) -> Any:
        """Everything that does not depend on the timestep."""

    @abstractmethod
    def predict(self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Any, scale: float = 1.0) -> Any:
        """The network; the result has `sample` (B, C, h, w) and what `side_losses` needs."""

    @abstractmethod
    def side_losses(self, prediction: Any, latents_ref_BChw: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The method's losses beside the diffusion loss, weights applied."""

    @abstractmethod
    def in_tile(self, batch: Batch, tile: Tile, height: float, width: float) -> Batch:
        """The batch as a tile of its latent (height x width cells) sees it: annotations, not pixels."""

    # What all share.

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """L_SD = mean (target - prediction)^2 at a uniform timestep, and the method's own losses."""
        latents_ref, latents = self._training_latents(batch, noise)
        timesteps = self._training_timesteps(batch, noise).to(latents.device)
        eps = noise.gaussian("noise", batch.keys, latents.shape[1:]).to(latents)
        lr_up = self._lr_up(batch)
        encoded = self.encode(lr_up, self.training_condition(batch, noise))
        prediction = self.predict(self.schedule.add_noise(latents, eps, timesteps), timesteps, encoded)
        target = self.schedule.target(latents, eps, timesteps)
        if self.from_lr:
            target = target - self._lr_latents(lr_up)
        losses = {"diffusion": functional.mse_loss(prediction.sample.float(), target)}
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
        steps = self.schedule.num_train_timesteps
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
    def restore(self, batch: Batch, noise: Noise) -> Tensor:
        """lr of any size -> (B, 3, scale h, scale w) in [0, 1]: LR start, guided solver, decoding, colour fix."""
        lr_up = self._lr_up(batch)
        height, width = lr_up.shape[-2:]
        padded = pad_reflect(lr_up, MULTIPLE)
        cell, lr_latents = self.autoencoder.downscale, self._lr_latents(padded)
        start = noise.gaussian("start", batch.keys, lr_latents.shape[1:]).to(lr_latents)
        latents = sample(
            self._predictor(batch, padded, lr_latents, height / cell, width / cell),
            initial_latents(self.schedule, self.sampling, lr_latents, start),
            self.schedule,
            self.sampling,
            lambda index: noise.gaussian(f"solver/{index}", batch.keys, lr_latents.shape[1:]),
        )
        restored = self.autoencoder.decode(latents / self.autoencoder.scaling_factor)[..., :height, :width]
        return fix_colors(self.sampling.colorfix, restored, bicubic_upsample(batch.lr, self.scale))

    def _predictor(
        self, batch: Batch, lr_up_B3HW: Tensor, lr_latents_BChw: Tensor, height: float, width: float
    ) -> Predict:
        """The guided, tiled network as a function of latents and timestep; conditions are encoded once per tile.

        `lr_up_B3HW` is padded; `height`, `width` are the latent cells of the image itself, which boxes are shares of.
        """
        spec, cell = self.sampling, self.autoencoder.downscale
        rows, columns = lr_up_B3HW.shape[-2] // cell, lr_up_B3HW.shape[-1] // cell
        tiles = tile_grid(rows, columns, spec.tile, spec.tile_overlap)

        def encode_tile(index: int) -> tuple[Any, Any]:
            window = tiles[index].crop(lr_up_B3HW, cell)
            seen = self.in_tile(batch, tiles[index], height, width)
            encoded = self.encode(window, self.condition(seen))
            return encoded, None if spec.guidance == 1.0 else self.encode(window, self.unconditional(seen))

        first = encode_tile(0)  # alone, because a text encoder may load itself when it is first asked
        branches = [first, *self.run_tiles(encode_tile, range(1, len(tiles)))]

        def predict(latents_BChw: Tensor, timestep: int) -> Tensor:
            timesteps = torch.full((len(latents_BChw),), timestep, device=latents_BChw.device)

            def in_window(index: int, window_BChw: Tensor) -> Tensor:
                encoded, other = branches[index]
                conditional = self.predict(window_BChw, timesteps, encoded, spec.conditioning_scale).sample.float()
                if other is None:
                    return conditional
                unconditional = self.predict(window_BChw, timesteps, other, spec.conditioning_scale).sample.float()
                return guide(conditional, unconditional, spec.guidance)

            predicted = stitch(latents_BChw, tiles, in_window, self.run_tiles)
            return predicted + lr_latents_BChw if self.from_lr else predicted

        return predict


def pad_reflect(images_BCHW: Tensor, multiple: int) -> Tensor:
    """Pad bottom and right to multiples by reflection, repeated where the image is smaller than its padding."""
    for axis in (-2, -1):
        size = images_BCHW.shape[axis]
        period = max(2 * (size - 1), 1)
        index = torch.arange(-(-size // multiple) * multiple, device=images_BCHW.device) % period
        images_BCHW = images_BCHW.index_select(axis, torch.where(index < size, index, period - index))
    return images_BCHW
