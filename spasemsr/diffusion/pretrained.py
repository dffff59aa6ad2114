"""The base denoiser from a Stable Diffusion checkpoint: 2.1-base (epsilon), 2.1 (v prediction), 1.5.

What `params.yaml` says of sizes and of the noise schedule must be what the checkpoint says: a mismatch is refused by
key before any weight is read. SD 1.5 projects into its attentions by 1x1 convolutions where SD 2 has linear layers;
the weights are the same numbers, so it becomes a UNet with linear layers, which is what the guided forward walks.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spasemsr.diffusion.spec import BaseSpec, PretrainedBaseSpec, RandomBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.errors import UserError
from spasemsr.weights.pretrained import load_pretrained, read_config
from spasemsr.weights.store import Checkpoint, locate

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

UNET, SCHEDULER = "unet", "scheduler"
_SCHEDULER_FILE = "scheduler_config.json"


def locate_base(base: PretrainedBaseSpec) -> Checkpoint:
    """The verified checkpoint of a base; its digest covers UNet and schedule."""
    return locate(base.source, base.revision, parts=(UNET, SCHEDULER))


def identity_of(base: BaseSpec) -> dict[str, Any]:
    """What a base is, JSON-ready, for the description of a trained model: the same weights have the same identity."""
    if isinstance(base, RandomBaseSpec):
        return {"kind": "random"}
    found = locate_base(base)
    return {"kind": "pretrained", "revision": found.revision, "weights_sha256": found.sha256}


def load_base(
    base: PretrainedBaseSpec, sizes: UNetSpec, schedule: ScheduleSpec, latent_channels: int, text_width: int
) -> "UNet2DConditionModel":
    """The UNet in float32, eval mode, with SD 2's linear projections. Raises UserError for a checkpoint that disagrees.

    `latent_channels` and `text_width` are those of the autoencoder and the text encoder it will work with.
    """
    from diffusers import UNet2DConditionModel

    folder = locate_base(base).path
    config = read_config(folder / UNET)
    _require_sizes(folder, config, sizes, latent_channels, text_width)
    _require_schedule(folder, schedule)
    unet = load_pretrained(UNet2DConditionModel, folder / UNET)
    heads = config.get("attention_head_dim", 8)
    if config.get("use_linear_projection", False) and isinstance(heads, list):
        return unet
    return _with_linear_projections(unet)


def _heads(config: dict[str, Any]) -> list[int]:
    heads = config.get("attention_head_dim", 8)  # diffusers' old name: a head count
    return [heads] * len(config["block_out_channels"]) if isinstance(heads, int) else list(heads)


def _require_sizes(folder: Path, config: dict[str, Any], sizes: UNetSpec, latent_channels: int, width: int) -> None:
    if config.get("_class_name") != "UNet2DConditionModel" or "block_out_channels" not in config:
        raise UserError(f"{folder / UNET} is no UNet2DConditionModel.", "Correct model.base.source in params.yaml.")
    stated = {
        "model.unet.block_out_channels": (list(sizes.block_out_channels), list(config["block_out_channels"])),
        "model.unet.attention_heads": (list(sizes.attention_heads), _heads(config)),
        "model.unet.norm_num_groups": (sizes.norm_num_groups, config.get("norm_num_groups", 32)),
        "the autoencoder's channels": (latent_channels, config.get("in_channels", 4)),
        "the text encoder's width": (width, config.get("cross_attention_dim")),
    }
    for name, (ours, theirs) in stated.items():
        if ours != theirs:
            raise UserError(
                f"{name} is {ours}, but {folder / UNET} has {theirs}.",
                "State the checkpoint's own sizes in params.yaml, or name another checkpoint in model.base.",
            )


def _require_schedule(folder: Path, schedule: ScheduleSpec) -> None:
    """The scheduler's file against `model.schedule`; sampling and training here always use "scaled_linear"."""
    config = read_config(folder / SCHEDULER, _SCHEDULER_FILE)
    stated = {
        "prediction_type": (schedule.prediction, config.get("prediction_type", "epsilon")),
        "num_train_timesteps": (schedule.num_train_timesteps, config.get("num_train_timesteps", 1000)),
        "beta_start": (schedule.beta_start, config.get("beta_start")),
        "beta_end": (schedule.beta_end, config.get("beta_end")),
        "beta_schedule": ("scaled_linear", config.get("beta_schedule")),
        "clip_sample": (False, config.get("clip_sample", False)),
    }
    for name, (ours, theirs) in stated.items():
        if ours != theirs:
            raise UserError(
                f"model.schedule has {name} = {ours!r}, but {folder / SCHEDULER} has {theirs!r}.",
                "A base is trained for one schedule: state its own in params.yaml (SD 2.1: v_prediction).",
            )


def _with_linear_projections(unet: "UNet2DConditionModel") -> "UNet2DConditionModel":
    """The same function with `proj_in` and `proj_out` as linear layers and one head count per level."""
    from diffusers import UNet2DConditionModel

    config = dict(unet.config)
    heads = _heads(config)
    twin = UNet2DConditionModel.from_config({**config, "use_linear_projection": True, "attention_head_dim": heads})
    state = {
        name: tensor.flatten(1) if name.endswith(("proj_in.weight", "proj_out.weight")) else tensor
        for name, tensor in unet.state_dict().items()
    }
    twin.load_state_dict(state)
    return twin.eval()
