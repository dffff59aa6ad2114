"""SegSR's network: the image's denoiser under labels and z_LR (SRDM), the labels' denoiser (SegDM), and the bridge.

B batch, C latent channels, K classes, F channels of the segmenter's features of lr, h w latent cells.

SRDM is a frozen UNet with a ControlNet that is shown the latents of lr; the seg controller's states are added at the
end of each of the UNet's four levels. SegDM predicts the clean labels from the labels s_tau, the segmenter's features
and what ImgAided sees in z_t. At the start the image's prediction is the base UNet's, bit for bit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spasemsr.diffusion.control import ControlBranch
from spasemsr.diffusion.guided import After, Cell
from spasemsr.diffusion.network import GuidedNetwork
from spasemsr.methods.segsr.bridge import ImageAid, SegController
from spasemsr.methods.segsr.denoiser import LabelDenoiser
from spasemsr.methods.segsr.labels import label_time
from spasemsr.methods.segsr.spec import SegSRSpec

if TYPE_CHECKING:
    from diffusers import Transformer2DModel, UNet2DConditionModel

LEVEL_ENDS = {1: 0, 3: 1, 5: 2, 7: 3}  # the last down cell of each level of the UNet, and the level


@dataclass(frozen=True)
class Encoded:
    """What does not change from step to step; `given_BKhw` are labels that no diffusion changes (Table 2), or None."""

    lr_latents_BChw: Tensor  # z_LR
    text_BLD: Tensor  # the empty prompt
    features_BFhw: Tensor  # F_lq
    shown_B: Tensor  # bool: whether the image is shown the labels
    given_BKhw: Tensor | None = None


class SegSRNetwork(GuidedNetwork):
    """ControlNet on z_LR, seg controller, SegDM and ImgAided; which of the last three exist, `spec` says."""

    def __init__(self, unet: "UNet2DConditionModel", spec: SegSRSpec, feature_channels: int, classes: int) -> None:
        """Sizes are those of the UNet given; `classes` counts the labels without "unknown"."""
        super().__init__(unet, spec.train_base)
        channels, sizes = unet.config.block_out_channels, spec.segments
        self.label_steps = sizes.steps
        hint = nn.Conv2d(unet.config.in_channels, channels[0], 1)
        nn.init.zeros_(hint.weight)
        nn.init.zeros_(hint.bias)
        self.control = ControlBranch(unet, hint=hint)
        self.seg_controller = self.embed = self.denoiser = self.head = self.image_aid = None
        if spec.labels != "none" and spec.to_image:
            self.seg_controller = SegController(classes, sizes.embedding, channels)
        if spec.labels == "diffusion":
            aided = sizes.width if spec.to_labels else 0
            self.embed = nn.Linear(classes, sizes.embedding, bias=False)
            self.denoiser = LabelDenoiser(feature_channels + sizes.embedding + aided, sizes.width)
            self.head = nn.Conv2d(sizes.width, classes, 1)
            if spec.to_labels:
                self.image_aid = ImageAid(unet.config.in_channels, sizes.stem, sizes.width)
        self.train()

    def parts(self) -> dict[str, nn.Module | None]:
        """The trained parts beside the UNet."""
        return {
            "controlnet": self.control.backbone,
            "seg_controller": self.seg_controller,
            "label_embed": self.embed,
            "label_denoiser": self.denoiser,
            "label_head": self.head,
            "image_aid": self.image_aid,
        }

    def labels(
        self,
        segments_BKhw: Tensor,
        noisy_latents_BChw: Tensor,
        timesteps_B: Tensor,
        image_steps: int,
        features_BFhw: Tensor,
    ) -> Tensor:
        """SegDM: one-hot s_tau, z_t and F_lq -> logits of s_0, (B, K, h, w); tau is t on the labels' clock."""
        assert self.embed is not None and self.denoiser is not None and self.head is not None  # labels: diffusion
        timesteps_B = timesteps_B.to(noisy_latents_BChw.device).expand(len(noisy_latents_BChw))
        embedded = self.embed(segments_BKhw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        seen = [features_BFhw.to(embedded), embedded]
        if self.image_aid is not None:
            seen.append(self.image_aid(noisy_latents_BChw, timesteps_B))
        times_B = label_time(timesteps_B, image_steps, self.label_steps)
        return self.head(self.denoiser(torch.cat(seen, dim=1), times_B))

    def predict(
        self,
        segments_BKhw: Tensor | None,
        noisy_latents_BChw: Tensor,
        timesteps_B: Tensor,
        encoded: Encoded,
        scale: float = 1.0,
    ) -> Tensor:
        """SRDM: (B, C, h, w) latents and one-hot labels -> the prediction; `scale` multiplies residuals and C_t."""
        residuals = self.control(
            noisy_latents_BChw,
            timesteps_B,
            encoded.lr_latents_BChw,
            _text_attention(encoded),
            self.gradient_checkpointing,
        )
        after = self._with_labels(segments_BKhw, encoded, scale)
        return self.guided(noisy_latents_BChw, timesteps_B, after, residuals, scale)

    def _with_labels(self, segments_BKhw: Tensor | None, encoded: Encoded, scale: float) -> After:
        """Text attention, and at the end of each level of the encoder the seg controller's state."""
        attended = _text_attention(encoded)
        if self.seg_controller is None or segments_BKhw is None:
            return attended
        states = self.seg_controller(segments_BKhw)
        weight_B111 = scale * encoded.shown_B.to(states[0]).view(-1, 1, 1, 1)

        def after(cell: Cell, attention: "Transformer2DModel | None", hidden: Tensor) -> Tensor:
            hidden = attended(cell, attention, hidden)
            if cell.kind != "down" or cell.index not in LEVEL_ENDS:
                return hidden
            return hidden + (weight_B111 * states[LEVEL_ENDS[cell.index]]).to(hidden.dtype)

        return after


def _text_attention(encoded: Encoded) -> After:
    """SD's own attention, on the empty prompt."""

    def after(cell: Cell, attention: "Transformer2DModel | None", hidden: Tensor) -> Tensor:
        return hidden if attention is None else attention(hidden, encoded.text_BLD, return_dict=False)[0]

    return after
