"""Builds or loads the base denoiser of a spec: a diffusers UNet2DConditionModel with the topology of SD 2.1.

Four levels, two layers each, cross-attention in the first three; only widths change between sizes, so every key and
every position index is the same at every size. Checks that a given UNet (built here or loaded) has this topology.
"""

from typing import TYPE_CHECKING, assert_never

from spasemsr.diffusion.spec import BaseSpec, PretrainedBaseSpec, RandomBaseSpec, ScheduleSpec, UNetSpec

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TOPOLOGY = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": 1,
    "use_linear_projection": True,
}
# Features of other families that the guided forward does not walk: the value each must have.
ABSENT = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "class_embed_type": None,
    "num_class_embeds": None,
    "addition_embed_type": None,
    "encoder_hid_dim_type": None,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "attention_type": "default",
}


def build_base(
    base: BaseSpec, sizes: UNetSpec, schedule: ScheduleSpec, latent_channels: int, cross_attention_dim: int
) -> "UNet2DConditionModel":
    """The UNet of a base: random weights of these sizes, or a checkpoint that must be of them and of the schedule."""
    match base:
        case RandomBaseSpec():
            return build_unet(sizes, latent_channels, cross_attention_dim)
        case PretrainedBaseSpec():
            from spasemsr.diffusion.pretrained import load_base

            return load_base(base, sizes, schedule, latent_channels, cross_attention_dim)
    assert_never(base)


def build_unet(spec: UNetSpec, latent_channels: int, cross_attention_dim: int) -> "UNet2DConditionModel":
    """A randomly initialised UNet; the defaults of the spec with 4 channels and width 1024 are SD 2.1-base's."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=spec.sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=spec.block_out_channels,
        attention_head_dim=spec.attention_heads,  # diffusers' old name: it is a head count
        cross_attention_dim=cross_attention_dim,
        norm_num_groups=spec.norm_num_groups,
        **TOPOLOGY,
    )


def require_topology(unet: "UNet2DConditionModel") -> None:
    """ValueError, naming key and value, if this is not a UNet the guided forward can walk."""
    for name, wanted in {**TOPOLOGY, **ABSENT}.items():
        found = getattr(unet.config, name)
        if (tuple(found) if isinstance(found, list) else found) != wanted:
            raise ValueError(f"UNet config {name} is {found!r}; the guided forward walks {wanted!r} only")
    if isinstance(unet.config.attention_head_dim, int) or unet.config.num_attention_heads is not None:
        raise ValueError("UNet config attention_head_dim must list the number of heads of each level")
