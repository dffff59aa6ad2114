"""Spatial-Semantic ControlNet (eq. 7, 8, 10): diffusers' ControlNet with two text streams fused at every attention.

B batch, i = 0..12 outputs, j = 0..6 attention positions, C_i channels, M rows of e_spa-text, L rows of the caption.

At position j, with u the ResNet's output: SpaAtten_j (the ControlNet's own attention, on e_spa-text) and DegAtten_j
(on the degradation caption) both read u; SpaSemAtten_j queries the first with the second as keys. At the start
SpaSemAtten is the identity, so the hidden states are the SD encoder's under e_spa-text.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from spasemsr.diffusion.attention import build_attention, clone, tokens, zero_out
from spasemsr.diffusion.control import residuals, zero_convs
from spasemsr.diffusion.guided import Cell, attentions_of, encoder_states, time_states
from spasemsr.methods.spasemsr.binding import RegionBias, keys_seen
from spasemsr.methods.spasemsr.spec import AttentionSpec
from spasemsr.methods.spasemsr.visual_encoders import Injection

if TYPE_CHECKING:
    from diffusers import Transformer2DModel, UNet2DConditionModel


class SpatialSemanticControlNet(nn.Module):
    """The trained branch: `backbone` (with the zero convs Z_i), `deg`, `spasem` and `inject`; `binding` if `bound`."""

    def __init__(
        self, unet: "UNet2DConditionModel", attention: AttentionSpec, features: int, bound: bool = False
    ) -> None:
        """Copies the UNet's encoder as it is now; `features` are the channels of x_sem-img.

        `bound`: SpaAtten has a region bias, of strength zero before training since it is a clone of SD's attention.
        """
        from diffusers import ControlNetModel

        super().__init__()
        self.backbone = ControlNetModel.from_unet(unet)
        del self.backbone.controlnet_cond_embedding  # the injection takes its place
        self.inject = Injection(features, unet.config.block_out_channels)
        self.deg, self.spasem = nn.ModuleList(), nn.ModuleList()
        for source in attentions_of(self.backbone):
            heads, channels = source.config.num_attention_heads, source.config.in_channels
            groups = unet.config.norm_num_groups
            deg = build_attention(attention.deg, channels, unet.config.cross_attention_dim, heads, groups)
            clone(deg, source)
            spasem = build_attention(attention.spasem, channels, channels, heads, groups)
            clone(spasem, source, keys_and_values=False)
            zero_out(spasem)
            self.deg.append(deg)
            self.spasem.append(spasem)
        sources = attentions_of(self.backbone)
        biases = [RegionBias(source.config.num_attention_heads, start=0.0) for source in sources] if bound else []
        self.binding = nn.ModuleList(biases)

    @property
    def layer_channels(self) -> list[int]:
        """C_i of the 13 outputs."""
        return [conv.in_channels for conv in zero_convs(self.backbone)]

    def forward(
        self,
        noisy_latents_BCHW: Tensor,
        timesteps: Tensor,
        features_BChw: Tensor,
        spatial_BMD: Tensor,
        spatial_mask_BM: Tensor,
        caption_BLD: Tensor,
        checkpointing: bool = False,
        inside_BNhw: Tensor | None = None,
    ) -> list[Tensor]:
        """The 13 hidden states h_i; at attention positions h_i is x_spa-sem of eq. 10.

        `inside` is where the objects are, for a network whose words are bound to their places.
        """

        def after(cell: Cell, attention: "Transformer2DModel | None", hidden: Tensor) -> Tensor:
            if attention is None:
                return hidden
            bias = self.binding[cell.attention] if self.binding else None
            seen = keys_seen(bias, hidden, spatial_mask_BM, inside_BNhw)
            spatial = attention(hidden, spatial_BMD, encoder_attention_mask=seen, return_dict=False)[0]
            degradation = self.deg[cell.attention](hidden, caption_BLD)
            return self.spasem[cell.attention](spatial, tokens(degradation))

        def enter(depth: int, hidden: Tensor) -> Tensor:
            return self.inject(depth, hidden, features_BChw)

        temb = time_states(self.backbone, noisy_latents_BCHW, timesteps)
        return encoder_states(self.backbone, noisy_latents_BCHW, temb, after, enter, checkpointing)

    def residuals(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """r_i = Z_i(h_i): what is added to the UNet, and the hybrid features of eq. 8."""
        return residuals(self.backbone, states)
