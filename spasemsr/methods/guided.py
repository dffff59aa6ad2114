"""Latent diffusion around a `GuidedNetwork`: what the methods share, all of them, SeeSR, SegSR and MegaSR, or two.

They differ in the network's conditions beside the image: that is `training_condition`, `condition`, `unconditional` and
`encode`. B batch, H W pixels of hr size, h w latent cells, L text rows, D text width.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spasemsr.backends.autoencoder.block_dct import BlockDCT
from spasemsr.diffusion.base import build_base
from spasemsr.diffusion.network import GuidedNetwork
from spasemsr.diffusion.tiling import pad_reflect
from spasemsr.methods.latent import Carry, LatentDiffusion, Prediction
from spasemsr.methods.prompts import encode_prompts, tag_prompt
from spasemsr.methods.protocol import Boxes, Called, Grid
from spasemsr.methods.shown import Extractors, ShownFeatures

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from spasemsr.backends.protocols import Autoencoder, TextEncoder
    from spasemsr.data.dataset import Batch
    from spasemsr.diffusion.spec import SampleSpec
    from spasemsr.diffusion.tiling import Tile, TileMap
    from spasemsr.methods.guided_spec import AroundBaseSpec, GuidedSpec, TaggedSpec
    from spasemsr.methods.noise import Noise


class AroundBase(LatentDiffusion):
    """A method whose `network` a subclass builds around the base denoiser it is given."""

    network: GuidedNetwork

    def __init__(
        self, spec: "AroundBaseSpec", scale: int, *, autoencoder: "Autoencoder", text_encoder: "TextEncoder"
    ) -> None:
        learned = not isinstance(autoencoder, BlockDCT)
        grid = Grid(autoencoder.channels, autoencoder.downscale, spec.unet.block_out_channels[0], learned)
        super().__init__(autoencoder, spec.schedule, scale, grid, spec.input)
        self.columns, self.restore_columns = spec.columns, spec.restore_columns
        self.text_encoder = text_encoder

    def base(self, spec: "AroundBaseSpec") -> "UNet2DConditionModel":
        """The base denoiser, random or loaded."""
        return build_base(spec.base, spec.unet, spec.schedule, self.autoencoder.channels, self.text_encoder.width)

    def trainable(self) -> dict[str, nn.Module]:
        """The modules that are optimized and saved, by name."""
        return self.network.trainable()

    def set_engine(self, *, checkpointing: bool, compiled: bool) -> None:
        """Recompute activations in backward, position by position; compile the network, not its conditioning."""
        self.network.gradient_checkpointing = checkpointing
        if compiled:
            self.network.predict = torch.compile(self.network.predict)


class GuidedDiffusion(AroundBase):
    """A method whose conditions are features of what it is shown, beside a text prompt."""

    def __init__(
        self,
        spec: "GuidedSpec",
        features: ShownFeatures,
        *,
        autoencoder: "Autoencoder",
        text_encoder: "TextEncoder",
    ) -> None:
        super().__init__(spec, features.scale, autoencoder=autoencoder, text_encoder=text_encoder)
        self.extractors = Extractors(features)

    def text(self, batch: "Batch", prompts: Sequence[str]) -> Tensor:
        """Prompts as the text attention reads them, (B, L, D)."""
        return encode_prompts(self.text_encoder, prompts, batch.lr.device)

    def side_losses(self, prediction: Prediction, latents_ref_BChw: Tensor, batch: "Batch") -> dict[str, Tensor]:
        """An empty dict: the diffusion loss is the only one."""
        return {}

    def seeing(self, batch: "Batch", shown_B3HW: Tensor) -> "Batch":
        """What the extractors say of another picture."""
        remade = {name for names in self.condition_features.values() for name in names}
        others = {name: value for name, value in batch.features.items() if name not in remade}
        return self.extractors.completed(replace(batch, features=others), shown_B3HW)

    def in_tile(self, batch: "Batch", tile: "Tile", height: float, width: float) -> "Batch":
        """Tags are about the whole picture; maps are cut by the view."""
        return batch

    @torch.no_grad()
    def restore(
        self,
        batch: "Batch",
        noise: "Noise",
        sampling: "SampleSpec",
        run_tiles: "TileMap" = map,
        called: Called | None = None,
        boxes: Boxes | None = None,
    ) -> Tensor:
        """As every latent method does, with the features of a picture that is in no column made first."""
        whole_cells_B3HW = pad_reflect(self._lr_up(batch), self.grid.cell)  # extractors leave parts of a cell out
        batch = self.extractors.completed(batch, whole_cells_B3HW)
        return super().restore(batch, noise, sampling, run_tiles, called, boxes)


class TaggedDiffusion(GuidedDiffusion):
    """A method whose text prompt is the tags, in training hr's, in restoring those found on what can be seen."""

    spec: "TaggedSpec"

    def training_condition(
        self, batch: "Batch", noise: "Noise", noisy_latents_BChw: Tensor, timesteps_B: Tensor
    ) -> Tensor:
        """(B, L, D): the tags of hr, or nothing, without quality words."""
        dropped = noise.drop("drop", batch.keys, [self.spec.drop_tags])[:, 0]
        prompts = [tag_prompt(objects) for objects in batch.objects]
        return self.text(batch, ["" if drop else prompt for drop, prompt in zip(dropped, prompts, strict=True)])

    def condition(self, batch: "Batch", sampling: "SampleSpec") -> Tensor:
        """(B, L, D): tags with the positive words."""
        return self.text(batch, [tag_prompt(objects, sampling.positive) for objects in batch.objects])

    def unconditional(self, batch: "Batch", sampling: "SampleSpec") -> Tensor:
        """(B, L, D): the negative words."""
        return self.text(batch, [sampling.negative] * len(batch.keys))

    def predict(
        self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Any, carry: Carry, scale: float = 1.0
    ) -> Prediction:
        """ControlNet and guided UNet."""
        return Prediction(self.network.predict(noisy_latents_BChw, timesteps_B, encoded, scale))
