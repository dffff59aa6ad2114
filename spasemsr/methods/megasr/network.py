"""MegaSR's network: a frozen UNet with CISM2 inside its attentions, a ControlNet, and in both RCA and MS-GAM.

B batch, C latent channels, H W pixels of lr at hr size, h w latent cells, L text rows of width D, P image rows of width
E, R soft-prompt rows of width K.

After each ResNet: SD's attention (in the UNet with CISM2), then RCA on the recogniser's representation of lr, then
MS-GAM on the maps. Everything added is the identity at the start, so the prediction is the base UNet's, bit for bit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from spasemsr.diffusion.attention import side_attentions
from spasemsr.diffusion.control import ControlBranch
from spasemsr.diffusion.guided import After, Cell, attentions_of
from spasemsr.diffusion.network import GuidedNetwork
from spasemsr.methods.megasr.block import attend, build_cism2
from spasemsr.methods.megasr.guidance import MapFusion, at_size, build_guidance
from spasemsr.methods.megasr.spec import MegaSRSpec

if TYPE_CHECKING:
    from diffusers import Transformer2DModel, UNet2DConditionModel


@dataclass(frozen=True)
class Guides:
    """What the extractors saw in lr: three maps, rows of the image's meaning, and the recogniser's representation."""

    edges_B1HW: Tensor  # in [0, 1]
    depth_B1HW: Tensor  # in [0, 1]
    classes_Bhw: Tensor  # int64 labels at latent size
    image_BPE: Tensor
    soft_BRK: Tensor


@dataclass(frozen=True)
class Encoded:
    """What does not change from step to step; `merged` is F^r of eq. 8, None where a variant has none."""

    lr_up_B3HW: Tensor
    text_BLD: Tensor
    image_BPE: Tensor
    soft_BRK: Tensor
    edges_B1hw: Tensor
    merged_BFhw: Tensor | None


class MegaSRNetwork(GuidedNetwork):
    """ControlNet, CISM2 (16), RCA (16 + 7) and MS-GAM (16 + 7); each of the last three can be off."""

    def __init__(
        self, unet: "UNet2DConditionModel", spec: MegaSRSpec, image_width: int, soft_width: int, classes: int
    ) -> None:
        """Sizes are those of the UNet given; `classes` counts the labels of the region maps."""
        super().__init__(unet, spec.train_base)
        self.control = ControlBranch(unet, spec.hint_channels)
        groups, maps = unet.config.norm_num_groups, (spec.edges, spec.regions)
        self.cism2 = build_cism2(unet, image_width) if spec.cism2 else None
        self.fusion = MapFusion(classes) if spec.regions else None
        self.rca = self.control_rca = self.guidance = self.control_guidance = None
        if spec.rca:
            self.rca = side_attentions(unet, soft_width, groups)
            self.control_rca = side_attentions(self.control.backbone, soft_width, groups)
        if any(maps):
            self.guidance = build_guidance(_widths(unet), groups, *maps)
            self.control_guidance = build_guidance(_widths(self.control.backbone), groups, *maps)
        self.train()

    def parts(self) -> dict[str, nn.Module | None]:
        """The trained parts beside the UNet."""
        return {
            "controlnet": self.control.backbone,
            "cism2": self.cism2,
            "rca": self.rca,
            "control_rca": self.control_rca,
            "fusion": self.fusion,
            "guidance": self.guidance,
            "control_guidance": self.control_guidance,
        }

    def encode(self, lr_up_B3HW: Tensor, text_BLD: Tensor, guides: Guides) -> Encoded:
        """Maps at latent size and F^r, once per image."""
        size = guides.classes_Bhw.shape[1:]
        edges, depth = at_size(guides.edges_B1HW, size), at_size(guides.depth_B1HW, size)
        merged = None if self.fusion is None else self.fusion(depth, guides.classes_Bhw)
        return Encoded(lr_up_B3HW, text_BLD, guides.image_BPE, guides.soft_BRK, edges, merged)

    def predict(self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Encoded, scale: float = 1.0) -> Tensor:
        """(B, C, h, w) latents at timesteps () or (B,) -> the prediction; `scale` multiplies the 13 residuals."""
        control = self._after(encoded, None, self.control_rca, self.control_guidance)
        residuals = self.control(
            noisy_latents_BChw, timesteps_B, encoded.lr_up_B3HW, control, self.gradient_checkpointing
        )
        after = self._after(encoded, self.cism2, self.rca, self.guidance)
        return self.guided(noisy_latents_BChw, timesteps_B, after, residuals, scale)

    def _after(
        self,
        encoded: Encoded,
        cism2: nn.ModuleList | None,
        rca: nn.ModuleList | None,
        guidance: nn.ModuleList | None,
    ) -> After:
        """What follows each ResNet of the UNet or of the ControlNet, which has no CISM2."""

        def after(cell: Cell, attention: "Transformer2DModel | None", hidden: Tensor) -> Tensor:
            if attention is None:
                return hidden
            position = cell.attention
            if cism2 is None:
                hidden = attention(hidden, encoded.text_BLD, return_dict=False)[0]
            else:
                hidden = attend(attention, hidden, encoded.text_BLD, encoded.image_BPE, cism2[position])
            if rca is not None:
                hidden = rca[position](hidden, encoded.soft_BRK)
            if guidance is not None:
                hidden = guidance[position](hidden, encoded.edges_B1hw, encoded.merged_BFhw)
            return hidden

        return after


def _widths(model: nn.Module) -> list[int]:
    """Channels at the attentions of a UNet or ControlNet."""
    return [attention.config.in_channels for attention in attentions_of(model)]
