"""The diffusion process as pure functions: variance schedule, noising, what the network predicts, one DDPM step.

Follows SD 2.1-base's scheduler: DDPM, "scaled_linear" betas, no clipping of the predicted sample. Letters: abar is
the cumulative product of 1 - beta; B batch, C channels, h w latent cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spasemsr.diffusion.spec import ScheduleSpec, Spacing
from spasemsr.errors import UserError

STEPS_OFFSET = 1  # SD's "leading" lists end at t = 1, not 0


@dataclass(frozen=True)
class Schedule:
    """abar_t for t = 0..T-1, (T,) float32, and what the network predicts, in diffusers' words."""

    alphas_cumprod_T: Tensor
    prediction: str

    @classmethod
    def of(cls, spec: ScheduleSpec) -> "Schedule":
        """SD's "scaled_linear" schedule: square roots of beta equally spaced."""
        roots = torch.linspace(spec.beta_start**0.5, spec.beta_end**0.5, spec.num_train_timesteps, dtype=torch.float32)
        prediction = "sample" if spec.prediction == "residual" else spec.prediction  # z_LR added, it is z_0
        return cls(torch.cumprod(1.0 - roots**2, dim=0), prediction)

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of timesteps."""
        return len(self.alphas_cumprod_T)

    def levels(self, timesteps_B: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t) of each sample, shaped to multiply `like` (B, ...)."""
        abar = self.alphas_cumprod_T.to(like.device)[timesteps_B.to(like.device)]
        abar = abar.reshape(-1, *[1] * (like.ndim - 1))
        return abar.sqrt(), (1.0 - abar).sqrt()

    def add_noise(self, latents_BChw: Tensor, noise_BChw: Tensor, timesteps_B: Tensor) -> Tensor:
        """z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps; also the LR-embedded start with z_LR in z_0's place."""
        signal, sigma = self.levels(timesteps_B, latents_BChw)
        return signal * latents_BChw + sigma * noise_BChw

    def target(self, latents_BChw: Tensor, noise_BChw: Tensor, timesteps_B: Tensor) -> Tensor:
        """What the network must predict: eps, v = sqrt(abar_t) eps - sqrt(1 - abar_t) z_0, or z_0 itself ("sample")."""
        if self.prediction == "epsilon":
            return noise_BChw
        if self.prediction == "sample":
            return latents_BChw
        signal, sigma = self.levels(timesteps_B, latents_BChw)
        return signal * noise_BChw - sigma * latents_BChw

    def clean(self, prediction_BChw: Tensor, noisy_BChw: Tensor, timesteps_B: Tensor) -> Tensor:
        """The z_0 that a prediction at z_t implies; not clipped, since latents have no fixed range."""
        signal, sigma = self.levels(timesteps_B, noisy_BChw)
        if self.prediction == "epsilon":
            return (noisy_BChw - sigma * prediction_BChw) / signal
        if self.prediction == "sample":
            return prediction_BChw
        return signal * noisy_BChw - sigma * prediction_BChw

    def sampling_timesteps(self, steps: int, start: float = 1.0, spacing: Spacing = "leading") -> list[int]:
        """`steps` descending timesteps over the first `start` of the schedule; the first is the LR start's tau.

        "leading" is SD's: 50 steps from the top are 981, 961, ..., 1. Few steps waste the last one at t = 1, where next
        to nothing is left to predict; "trailing" begins at the top and ends above it: 3 steps are 999, 666, 332. A
        single step is the top of the share in both. Raises UserError when the share holds fewer timesteps than asked.
        """
        span = round(start * self.num_train_timesteps)
        if span < steps:
            raise UserError(
                f"sample.steps = {steps} does not fit into sample.start = {start}: "
                f"that share of the schedule has {span} timesteps.",
                "Take fewer steps or a later start.",
            )
        if steps == 1 or spacing == "trailing":
            return [round(span - index * span / steps) - 1 for index in range(steps)]
        stride = span // steps
        offset = min(STEPS_OFFSET, stride - 1)  # stride 1 uses every timestep, and T itself does not exist
        return [index * stride + offset for index in reversed(range(steps))]


def ddpm_step(
    schedule: Schedule, prediction_BChw: Tensor, noisy_BChw: Tensor, timestep: int, previous: int, noise_BChw: Tensor
) -> Tensor:
    """One ancestral step from z_t to z_s, s = `previous` < t (-1 for z_0): DDPM's eq. 7, variance "fixed_small".

    `noise_BChw` is standard normal and has no effect on the last step, whose variance is zero.
    """
    timesteps_B = torch.full((len(noisy_BChw),), timestep, dtype=torch.long)
    clean = schedule.clean(prediction_BChw, noisy_BChw, timesteps_B)
    if previous < 0:
        return clean
    abar_t, abar_s = schedule.alphas_cumprod_T[timestep].item(), schedule.alphas_cumprod_T[previous].item()
    alpha = abar_t / abar_s
    beta = 1.0 - alpha
    mean = (abar_s**0.5 * beta * clean + alpha**0.5 * (1.0 - abar_s) * noisy_BChw) / (1.0 - abar_t)
    variance = (1.0 - abar_s) / (1.0 - abar_t) * beta
    return mean + variance**0.5 * noise_BChw
