"""The whole network: LR and text in, noise (or velocity) prediction and hybrid features out (sec. 3.4, 3.5).

B batch, H W pixels of the LR at HR size, h w = H/8 W/8 latent cells, M rows of e_spa-text, D text width.

SpaSemDM is the frozen base UNet with SpaTextAtten after each of its 16 attentions and SemImgAtten at each of its 12 up
positions; the Spatial-Semantic ControlNet feeds both. At the start the prediction equals the base UNet's, bit for bit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from spasemsr.diffusion.attention import Kind, build_attention, clone, tokens, zero_out
from spasemsr.diffusion.guided import RESIDUALS, Cell, attentions_of
from spasemsr.diffusion.network import GuidedNetwork
from spasemsr.methods.spasemsr.binding import RegionBias, inside_boxes, keys_seen
from spasemsr.methods.spasemsr.conditioning import Conditioning
from spasemsr.methods.spasemsr.constraint import ConstraintHeads
from spasemsr.methods.spasemsr.controlnet import SpatialSemanticControlNet
from spasemsr.methods.spasemsr.spatial_text import BoxFusion, spatial_text
from spasemsr.methods.spasemsr.spec import AttentionSpec, ModelSpec
from spasemsr.methods.spasemsr.visual_encoders import VisualEncoder

if TYPE_CHECKING:
    from diffusers import Transformer2DModel, UNet2DConditionModel


@dataclass(frozen=True)
class Encoded:
    """What does not change from step to step: text, and what the encoders see in the LR.

    A mask of the base's text is there where that is e_spa-text.
    """

    features_BChw: Tensor  # x_sem-img, eq. 7: x_img then x_sem
    base_BLD: Tensor
    caption_BLD: Tensor
    spatial_BMD: Tensor  # e_spa-text, eq. 5
    spatial_mask_BM: Tensor
    inside_BNhw: Tensor | None = None  # the share of each cell an object covers, where words are bound to places
    base_mask_BL: Tensor | None = None


@dataclass(frozen=True)
class NetworkOutput:
    """What the network makes of noisy latents: a prediction (noise or velocity), and the 13 residuals r_i.

    `hybrid` are the features of eq. 8 that the heads see: the residuals, or the states before their zero convs.
    """

    sample: Tensor
    residuals: tuple[Tensor, ...]
    hybrid: tuple[Tensor, ...]


class SemImgAttention(nn.Module):
    """SemImgAtten: the UNet's decoder attends to the ControlNet state h_i of the same skip.

    The full block normalises its keys, since hidden states of different layers differ in scale.
    """

    def __init__(self, kind: Kind, channels: int, kv_channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(kv_channels) if kind == "full" else nn.Identity()
        self.attention = build_attention(kind, channels, kv_channels, heads, groups)
        zero_out(self.attention)

    def forward(self, x_BCHW: Tensor, state_BCHW: Tensor) -> Tensor:
        """(B, C, H, W), (B, C_i, H, W) -> (B, C, H, W)."""
        return self.attention(x_BCHW, self.norm(tokens(state_BCHW)))


class SpaSemNetwork(GuidedNetwork):
    """SpaSemSR around one base UNet. The UNet is frozen unless `spec.train_base`; `trainable` names all that is not.

    `gradient_checkpointing` recomputes the activations of each position in backward.
    """

    def __init__(self, unet: "UNet2DConditionModel", spec: ModelSpec, feature_channels: int) -> None:
        """Weights that are not cloned from `unet` or zero come from torch's default generator.

        `feature_channels` are the channels of the semantic reference (256 for SAM). Sizes are those of the UNet given;
        `spec.unet` is not read.
        """
        super().__init__(unet, spec.train_base)
        config = unet.config
        width, encoders = config.block_out_channels[0] // 2, spec.encoders
        self.e_img = VisualEncoder(encoders.hint_channels, 0, width if encoders.sem else 2 * width)
        self.e_sem = VisualEncoder(encoders.hint_channels, encoders.sem_blocks, width) if encoders.sem else None
        self.base_text, self.hyb_tap = spec.base_text, spec.hyb_tap
        self.bound = spec.places and spec.spatial.binding == "bias"
        self.control = SpatialSemanticControlNet(unet, spec.attention, 2 * width, self.bound)
        self.fusion = BoxFusion(config.cross_attention_dim, spec.fusion_width) if spec.places else None
        self.heads = ConstraintHeads(
            self.control.layer_channels, config.in_channels, feature_channels, spec.constraint.img, spec.constraint.sem
        )
        self.spatext = _spatext(unet, spec.attention)
        heads = [source.config.num_attention_heads for source in attentions_of(unet)] if self.bound else []
        # SpaTextAtten ends in a zero projection, so its bias may have full strength before training
        self.binding = nn.ModuleList(RegionBias(count, start=1.0) for count in heads)
        self.semimg = _semimg(unet, spec.attention, self.control.layer_channels)
        self.train()

    def parts(self) -> dict[str, nn.Module | None]:
        """The trained parts beside the UNet."""
        return {
            "controlnet": self.control.backbone,
            "deg": self.control.deg,
            "spasem": self.control.spasem,
            "inject": self.control.inject,
            "e_img": self.e_img,
            "e_sem": self.e_sem,
            "heads": self.heads,
            "fusion": self.fusion,
            "spatext": self.spatext,
            "binding": nn.ModuleDict({"control": self.control.binding, "spatext": self.binding}),
            "semimg": self.semimg,
        }

    def see(self, lr_up_B3HW: Tensor) -> Tensor:
        """x_sem-img of eq. 7, (B, C_0, h, w): what E_img sees, then what E_sem sees."""
        if not torch.is_grad_enabled() and lr_up_B3HW.device.type == "cpu":
            # Few channels of many pixels: one picture at a time stays in a core's cache, and channels lie together.
            return torch.cat(
                [self._seen(one.contiguous(memory_format=torch.channels_last)) for one in lr_up_B3HW.split(1)]
            )
        return self._seen(lr_up_B3HW)

    def _seen(self, lr_up_B3HW: Tensor) -> Tensor:
        encoders = [self.e_img] if self.e_sem is None else [self.e_img, self.e_sem]
        return torch.cat([encoder(lr_up_B3HW).contiguous() for encoder in encoders], dim=1)

    def encode(self, lr_up_B3HW: Tensor, conditioning: Conditioning) -> Encoded:
        """Text and visual features, once per image; `lr_up` in [0, 1], 8 pixels to a latent cell.

        Raises ValueError for sides that are not multiples of 8, and for a sample without a valid text row.
        """
        if lr_up_B3HW.shape[-2] % 8 or lr_up_B3HW.shape[-1] % 8:
            raise ValueError(f"lr_up is {tuple(lr_up_B3HW.shape[-2:])} pixels; both sides must be multiples of 8")
        spatial, mask = spatial_text(conditioning, self.fusion)
        features, inside = self.see(lr_up_B3HW), None
        if self.bound:
            inside = inside_boxes(conditioning.boxes_BN4, conditioning.use_boxes_B, *features.shape[2:])
        base, base_mask = (spatial, mask) if self.base_text == "spa" else (conditioning.base_BLD, None)
        return Encoded(features, base, conditioning.caption_BLD, spatial, mask, inside, base_mask)

    def predict(
        self, noisy_latents: Tensor, timesteps: Tensor, encoded: Encoded, conditioning_scale: float = 1.0
    ) -> NetworkOutput:
        """(B, C, h, w) latents and timesteps of shape () or (B,) -> prediction and unscaled residuals.

        `conditioning_scale` multiplies what the ControlNet adds: the residuals, and the branch of SemImgAtten.
        """
        states = self._states(noisy_latents, timesteps, encoded)
        residuals = self.control.residuals(states)

        def after(cell: Cell, attention: "Transformer2DModel | None", hidden: Tensor) -> Tensor:
            if attention is not None:
                base, mask = encoded.base_BLD, encoded.base_mask_BL
                hidden = attention(hidden, base, encoder_attention_mask=mask, return_dict=False)[0]
                bias = self.binding[cell.attention] if self.binding else None
                seen = keys_seen(bias, hidden, encoded.spatial_mask_BM, encoded.inside_BNhw)
                hidden = self.spatext[cell.attention](hidden, encoded.spatial_BMD, seen)
            if cell.kind != "up":
                return hidden
            guided = self.semimg[cell.index](hidden, states[skip_of(cell.index)])
            return guided if conditioning_scale == 1.0 else hidden + conditioning_scale * (guided - hidden)

        sample = self.guided(noisy_latents, timesteps, after, residuals, conditioning_scale)
        return NetworkOutput(sample, residuals, residuals if self.hyb_tap == "residual" else tuple(states))

    def hybrid(self, noisy_latents: Tensor, timesteps: Tensor, encoded: Encoded) -> tuple[Tensor, ...]:
        """The features of eq. 8 alone, as `predict` gives them, by the ControlNet without the UNet."""
        states = self._states(noisy_latents, timesteps, encoded)
        return self.control.residuals(states) if self.hyb_tap == "residual" else tuple(states)

    def _states(self, noisy_latents: Tensor, timesteps: Tensor, encoded: Encoded) -> list[Tensor]:
        """The ControlNet's 13 states h_i."""
        return self.control(
            noisy_latents, timesteps, encoded.features_BChw, encoded.spatial_BMD, encoded.spatial_mask_BM,
            encoded.caption_BLD, self.gradient_checkpointing, encoded.inside_BNhw,
        )  # fmt: skip


def skip_of(up_position: int) -> int:
    """The ControlNet output i whose skip the UNet's up position p (0 first) consumes: 11, 10, ..., 0."""
    return RESIDUALS - 2 - up_position


def _spatext(unet: "UNet2DConditionModel", attention: AttentionSpec) -> nn.ModuleList:
    """SpaTextAtten for the 16 attentions of the UNet: cloned from them, then the identity."""
    blocks = nn.ModuleList()
    for source in attentions_of(unet):
        heads, channels = source.config.num_attention_heads, source.config.in_channels
        kv_width, groups = unet.config.cross_attention_dim, unet.config.norm_num_groups
        block = build_attention(attention.spatext, channels, kv_width, heads, groups)
        clone(block, source)
        zero_out(block)
        blocks.append(block)
    return blocks


def _semimg(unet: "UNet2DConditionModel", attention: AttentionSpec, layer_channels: list[int]) -> nn.ModuleList:
    """SemImgAtten for the 12 up positions, also those without an attention of their own."""
    blocks = nn.ModuleList()
    head_counts = tuple(reversed(unet.config.attention_head_dim))
    for block, heads in zip(unet.up_blocks, head_counts, strict=True):
        for resnet in block.resnets:
            kv_channels = layer_channels[skip_of(len(blocks))]
            channels, groups = resnet.out_channels, unet.config.norm_num_groups
            blocks.append(SemImgAttention(attention.semimg, channels, kv_channels, heads, groups))
    return blocks
