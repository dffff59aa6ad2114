"""Stable Diffusion's autoencoder (diffusers AutoencoderKL): images <-> latents of 1/8 of the resolution, 4 channels.

Weights stay float32; `precision` is autocast's. In float16 this network is known to overflow into black images: such a
sample is computed again in float32, alone. Images above 1024 px go through in blended tiles. B batch, C channels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from spasemsr.backends.autoencoder.spec import AutoencoderKLSpec
from spasemsr.backends.networks.runtime import choose_device, compute
from spasemsr.weights.pretrained import load_pretrained, read_config
from spasemsr.weights.store import locate

_TILE_PIXELS, _TILE_OVERLAP = 1024, 0.25


class KLAutoencoder(nn.Module):
    """The `vae` folder of a checkpoint; sizes are known at once, weights are loaded when first used."""

    def __init__(self, spec: AutoencoderKLSpec, device: str) -> None:
        super().__init__()
        found = locate(spec.source, spec.revision, spec.parts)
        self._folder, self._precision = found.path / spec.parts[0], spec.precision
        config = read_config(self._folder)
        self.channels = int(config.get("latent_channels", 4))
        self.downscale = 2 ** (len(config.get("block_out_channels", ())) - 1)
        self.scaling_factor = float(config.get("scaling_factor", 0.18215))
        place = torch.zeros((), device=choose_device(device))
        self.register_buffer("_place", place, persistent=False)  # where the weights will be wanted
        self._model: Any = None

    def moments(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> unscaled mean and log-variance (B, 2C, H/f, W/f), float32, where the images are."""
        height, width = images_B3HW.shape[-2:]
        if height % self.downscale or width % self.downscale:
            raise ValueError(f"autoencoder_kl needs sides in multiples of {self.downscale}, not {width}x{height}")
        model = self._loaded()
        return self._run(lambda x: model.encode(x).latent_dist.parameters, images_B3HW * 2 - 1)

    def decode(self, latents_BChw: Tensor) -> Tensor:
        """Unscaled latents (B, C, h, w) -> (B, 3, H, W) in [0, 1], float32, on the latents' device."""
        model = self._loaded()
        return (self._run(lambda z: model.decode(z).sample, latents_BChw) / 2 + 0.5).clamp(0.0, 1.0)

    def _run(self, network: Any, inputs: Tensor) -> Tensor:
        return compute(network, inputs, self._place.device, self._precision, "autoencoder").to(inputs.device)

    def _loaded(self) -> Any:
        if self._model is None:
            from diffusers import AutoencoderKL

            model = load_pretrained(AutoencoderKL, self._folder)
            model.enable_tiling()
            model.tile_sample_min_size = _TILE_PIXELS
            model.tile_latent_min_size = _TILE_PIXELS // self.downscale
            model.tile_overlap_factor = _TILE_OVERLAP
            self._model = model.to(self._place.device)
        return self._model
