"""A ControlNet as the papers share it: a trained copy of the UNet's encoder that adds its states to the UNet's skips.

B batch, C_0 channels of the UNet's first level, H W pixels of lr at hr size, h w latent cells, i = 0..12 the outputs.

The modules are diffusers' own, walked by `guided.encoder_states`, so that a method says what follows each attention.
The last conv of the hint and the 13 convs Z_i are zero at the start, so that an untrained branch changes nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from spasemsr.diffusion.guided import After, encoder_states, time_states

if TYPE_CHECKING:
    from diffusers import ControlNetModel, UNet2DConditionModel


class ControlBranch(nn.Module):
    """`backbone` is diffusers' ControlNet with the weights of a UNet as they are now.

    `hint` turns what the branch is shown into (B, C_0, h, w), which is added after its conv_in. By default it is
    ControlNet's own stack of convs of these `channels` on lr at hr size, 8 pixels to a cell.
    """

    def __init__(
        self,
        unet: "UNet2DConditionModel",
        channels: Sequence[int] = (16, 32, 96, 256),
        hint: nn.Module | None = None,
    ) -> None:
        from diffusers import ControlNetModel

        super().__init__()
        self.backbone = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=tuple(channels))
        if hint is not None:
            self.backbone.controlnet_cond_embedding = hint

    def forward(
        self,
        noisy_latents_BChw: Tensor,
        timesteps_B: Tensor,
        shown: Tensor,
        after: After,
        checkpointing: bool = False,
    ) -> tuple[Tensor, ...]:
        """r_i = Z_i(h_i), the 13 residuals; `shown` is the input of the hint."""

        def enter(depth: int, hidden: Tensor) -> Tensor:
            return hidden + self.backbone.controlnet_cond_embedding(shown).to(hidden.dtype) if depth == 0 else hidden

        temb = time_states(self.backbone, noisy_latents_BChw, timesteps_B)
        return residuals(
            self.backbone, encoder_states(self.backbone, noisy_latents_BChw, temb, after, enter, checkpointing)
        )


def zero_convs(backbone: "ControlNetModel") -> list[nn.Conv2d]:
    """Z_0..Z_12, the 1x1 convs between a ControlNet's states and the UNet's skips."""
    return [*backbone.controlnet_down_blocks, backbone.controlnet_mid_block]


def residuals(backbone: "ControlNetModel", states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """r_i = Z_i(h_i), i = 0..12."""
    return tuple(conv(state) for conv, state in zip(zero_convs(backbone), states, strict=True))
