"""SeeSR's network (its sec. 3.3): a frozen UNet and a ControlNet, with a second cross-attention after each text one.

B batch, C latent channels, H W pixels of lr at hr size, h w latent cells, L text rows of width D, R rows of the soft
prompt, of width K.

Representation cross-attention (RCA) reads the soft prompt, what a recogniser saw in lr, where text attention reads the
hard prompt, the names of what it recognised. At the start every RCA is the identity, and so the prediction is the base
UNet's, bit for bit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from spasemsr.diffusion.attention import side_attentions
from spasemsr.diffusion.control import ControlBranch
from spasemsr.diffusion.guided import After, Cell
from spasemsr.diffusion.network import GuidedNetwork
from spasemsr.methods.seesr.spec import SeeSRSpec

if TYPE_CHECKING:
    from diffusers import Transformer2DModel, UNet2DConditionModel


@dataclass(frozen=True)
class Encoded:
    """What does not change from step to step."""

    lr_up_B3HW: Tensor  # what the ControlNet is shown, in [0, 1]
    hard_BLD: Tensor  # the encoded tags
    soft_BRK: Tensor  # the recogniser's representation


class SeeSRNetwork(GuidedNetwork):
    """ControlNet (13 residuals) and RCA in both; 749,881,040 trained numbers around SD 2.1-base with K = 512."""

    def __init__(self, unet: "UNet2DConditionModel", spec: SeeSRSpec, soft_width: int) -> None:
        """Sizes are those of the UNet given; weights that are neither copied nor zero come from torch's generator."""
        super().__init__(unet, spec.train_base)
        self.control = ControlBranch(unet, spec.hint_channels)
        groups = unet.config.norm_num_groups
        self.rca = self.control_rca = None
        if spec.rca:
            self.rca = side_attentions(unet, soft_width, groups)
            self.control_rca = side_attentions(self.control.backbone, soft_width, groups)
            for copy, source in zip(self.control_rca, self.rca, strict=False):  # the ControlNet is the UNet's encoder
                copy.load_state_dict(source.state_dict())
        self.train()

    def parts(self) -> dict[str, nn.Module | None]:
        """The trained parts beside the UNet; a variant without RCA (Table 7) lacks two of them."""
        return {"controlnet": self.control.backbone, "control_rca": self.control_rca, "rca": self.rca}

    def predict(self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, encoded: Encoded, scale: float = 1.0) -> Tensor:
        """(B, C, h, w) latents at timesteps () or (B,) -> the prediction; `scale` multiplies the 13 residuals."""
        residuals = self.control(
            noisy_latents_BChw,
            timesteps_B,
            encoded.lr_up_B3HW,
            self._after(self.control_rca, encoded),
            self.gradient_checkpointing,
        )
        return self.guided(noisy_latents_BChw, timesteps_B, self._after(self.rca, encoded), residuals, scale)

    def _after(self, rca: nn.ModuleList | None, encoded: Encoded) -> After:
        """What follows each ResNet: text attention on the tags, then RCA on the representation."""

        def after(cell: Cell, attention: "Transformer2DModel | None", hidden: Tensor) -> Tensor:
            if attention is None:
                return hidden
            hidden = attention(hidden, encoded.hard_BLD, return_dict=False)[0]
            return hidden if rca is None else rca[cell.attention](hidden, encoded.soft_BRK)

        return after
