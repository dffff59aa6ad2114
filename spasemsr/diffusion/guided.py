"""The guided forward: walks diffusers' own UNet and ControlNet sub-modules and calls what stands beside them.

B batch, C channels, H W the size of a state (latent cells over stride), L text rows, D text width.

diffusers' modules stay unmodified; the walk calls their ResNets, attentions, down- and upsamplers in their own order.
What happens after each ResNet is the caller's function `after(cell, attention, hidden)`, so side modules live
elsewhere, and a caller that only applies the attention reproduces `unet(...)` bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from diffusers import ControlNetModel, Transformer2DModel, UNet2DConditionModel

RESIDUALS = 13  # ControlNet outputs: 12 skips and the mid block


@dataclass(frozen=True)
class Cell:
    """One ResNet and what follows it: `index` counts cells of its kind, `attention` the attention positions (or None).

    Down cells 0..7 hold attentions 0..5, the mid cell attention 6, up cells 3..11 attentions 7..15.
    """

    kind: Literal["down", "mid", "up"]
    index: int
    attention: int | None


After = Callable[[Cell, "Transformer2DModel | None", Tensor], Tensor]


def time_states(model: "UNet2DConditionModel | ControlNetModel", latents_BCHW: Tensor, timesteps: Tensor) -> Tensor:
    """The time embedding of a UNet or ControlNet: timesteps of shape () or (B,) -> (B, 4 C_0)."""
    timesteps_B = timesteps.to(latents_BCHW.device).expand(latents_BCHW.shape[0])
    return model.time_embedding(model.time_proj(timesteps_B).to(latents_BCHW.dtype))


def encoder_states(
    model: "UNet2DConditionModel | ControlNetModel",
    latents_BCHW: Tensor,
    temb: Tensor,
    after: After,
    enter: Callable[[int, Tensor], Tensor] | None = None,
    checkpointing: bool = False,
) -> list[Tensor]:
    """conv_in, down blocks and mid block: the 13 hidden states, 12 skips and the mid block's output.

    `enter(d, hidden)` may change what enters: d = 0 after conv_in (the first state includes it), 1..3 down blocks,
    4 the mid block.
    """
    enter = enter or (lambda depth, hidden: hidden)
    hidden = enter(0, model.conv_in(latents_BCHW))
    states, index, attended = [hidden], 0, 0
    for depth, block in enumerate(model.down_blocks):
        hidden = enter(depth, hidden) if depth else hidden
        for resnet, attention in _pairs(block):
            cell = Cell("down", index, attended if attention is not None else None)
            hidden = _region(checkpointing, _Step(resnet, attention, temb, cell, after), hidden)
            states.append(hidden)
            index, attended = index + 1, attended + (attention is not None)
        for downsampler in block.downsamplers or ():
            hidden = downsampler(hidden)
            states.append(hidden)
    first, last = model.mid_block.resnets
    step = _Step(first, model.mid_block.attentions[0], temb, Cell("mid", 0, attended), after, last)
    states.append(_region(checkpointing, step, enter(len(model.down_blocks), hidden)))
    return states


def decoder_output(
    unet: "UNet2DConditionModel", states: Sequence[Tensor], temb: Tensor, after: After, checkpointing: bool = False
) -> Tensor:
    """The UNet's up blocks and output from 13 encoder states (with residuals already added) -> (B, C_out, H, W)."""
    hidden, skips = states[-1], list(states[:-1])
    index, attended = 0, 1 + sum(attention is not None for block in unet.down_blocks for _, attention in _pairs(block))
    for block in unet.up_blocks:
        for resnet, attention in _pairs(block):
            cell = Cell("up", index, attended if attention is not None else None)
            hidden = torch.cat([hidden, skips.pop()], dim=1)
            hidden = _region(checkpointing, _Step(resnet, attention, temb, cell, after), hidden)
            index, attended = index + 1, attended + (attention is not None)
        for upsampler in block.upsamplers or ():
            # The next skip's size, not twice this one: sizes that are not multiples of 8 were rounded up going down.
            hidden = upsampler(hidden, skips[-1].shape[2:])
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))


@dataclass(frozen=True)
class _Step:
    """One position: ResNet, what follows it, and in the mid block a second ResNet."""

    resnet: nn.Module
    attention: "Transformer2DModel | None"
    temb: Tensor
    cell: Cell
    after: After
    last: nn.Module | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        hidden = self.after(self.cell, self.attention, self.resnet(hidden, self.temb))
        return hidden if self.last is None else self.last(hidden, self.temb)


def _region(checkpointing: bool, step: _Step, hidden: Tensor) -> Tensor:
    """Run one position; with checkpointing its activations are recomputed in backward instead of kept."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(step, hidden, use_reentrant=False, preserve_rng_state=False)  # nothing here draws
    return step(hidden)


def attentions_of(model: nn.Module) -> list["Transformer2DModel"]:
    """The attentions of a UNet or ControlNet in walking order: down blocks, mid block, up blocks."""
    blocks = [*model.down_blocks, model.mid_block, *getattr(model, "up_blocks", ())]
    return [attention for block in blocks for attention in getattr(block, "attentions", ())]


def _pairs(block: nn.Module) -> Iterator[tuple[nn.Module, "Transformer2DModel | None"]]:
    """The ResNets of a block, each with its attention; blocks without attention have None."""
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return zip(block.resnets, attentions, strict=True)
