"""The base of the guided networks: one UNet, frozen unless a spec says otherwise, and what a method puts beside it.

B batch, C latent channels, h w latent cells. A network is the UNet itself, bit for bit, until it is trained.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn

from spasemsr.diffusion.base import require_topology
from spasemsr.diffusion.guided import After, decoder_output, encoder_states, time_states

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class GuidedNetwork(nn.Module, ABC):
    """`unet` and side modules; `gradient_checkpointing` recomputes the activations of each position in backward."""

    def __init__(self, unet: "UNet2DConditionModel", train_base: bool) -> None:
        super().__init__()
        require_topology(unet)
        self.train_base = train_base
        self.gradient_checkpointing = False
        self.unet = unet.requires_grad_(train_base)

    @abstractmethod
    def parts(self) -> dict[str, nn.Module | None]:
        """What a method trains beside the UNet, under the names its tensors are saved with; None is absent."""

    def trainable(self) -> dict[str, nn.Module]:
        """The trained parts under stable names; the UNet is among them only if it is trained."""
        parts = {**self.parts(), "unet": self.unet if self.train_base else None}
        return {name: part for name, part in parts.items() if part is not None and any(True for _ in part.parameters())}

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; a frozen base stays in eval mode."""
        super().train(mode)
        self.unet.train(mode and self.train_base)
        return self

    def guided(
        self, noisy_latents_BChw: Tensor, timesteps_B: Tensor, after: After, residuals: Sequence[Tensor], scale: float
    ) -> Tensor:
        """The UNet with `after` at each of its positions and `scale` times the 13 residuals on its states."""
        temb = time_states(self.unet, noisy_latents_BChw, timesteps_B)
        own = encoder_states(self.unet, noisy_latents_BChw, temb, after, checkpointing=self.gradient_checkpointing)
        fed = [state + (scale * residual).to(state.dtype) for state, residual in zip(own, residuals, strict=True)]
        return decoder_output(self.unet, fed, temb, after, self.gradient_checkpointing)
