"""From a noisy start to clean latents: timesteps, LR-embedded start, guidance, and the two solvers.

The network is a function here: `predict(noisy latents, timestep) -> prediction`; conditions and tiles are its
business. All noise comes in from outside, per sample, so a sample does not depend on its batch. Shapes: B batch,
C channels, h w latent cells.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spasemsr.diffusion.schedule import Schedule, ddpm_step
from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import UserError

Predict = Callable[[Tensor, int], Tensor]
StepNoise = Callable[[int], Tensor]  # index of the step -> standard normal noise shaped like the latents


def guide(conditional_BChw: Tensor, unconditional_BChw: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance: u + g (c - u); g = 1 is c and g = 0 is u, up to rounding."""
    return unconditional_BChw + guidance * (conditional_BChw - unconditional_BChw)


def initial_latents(schedule: Schedule, spec: SampleSpec, lr_latents_BChw: Tensor, noise_BChw: Tensor) -> Tensor:
    """Where sampling begins: LRE (SeeSR 3.4) noises the latents of lr_up to tau, the first timestep; else pure noise.

    Training sees z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps; starting from that form, not from eps alone, removes
    the gap that abar_T > 0 leaves between training and inference.
    """
    if not spec.lre:
        if spec.start < 1.0:
            raise UserError(
                f"sample.start = {spec.start} needs sample.lre: pure noise belongs to the top of the schedule only.",
                "Set lre: true, or start: 1.0.",
            )
        return noise_BChw
    tau = schedule.sampling_timesteps(spec.steps, spec.start, spec.spacing)[0]
    return schedule.add_noise(lr_latents_BChw, noise_BChw, torch.full((len(lr_latents_BChw),), tau))


def sample(
    predict: Predict, latents_BChw: Tensor, schedule: Schedule, spec: SampleSpec, step_noise: StepNoise
) -> Tensor:
    """Run the solver of `spec` from `latents_BChw` (at the first timestep) to clean latents of the same shape."""
    timesteps = schedule.sampling_timesteps(spec.steps, spec.start, spec.spacing)
    solver = build_solver(spec.solver, schedule, timesteps, step_noise)
    for index, timestep in enumerate(timesteps):
        latents_BChw = solver.step(predict(latents_BChw, timestep), index, latents_BChw)
    return latents_BChw


def build_solver(
    name: str, schedule: Schedule, timesteps: Sequence[int], step_noise: StepNoise
) -> "AncestralSolver | MultistepSolver":
    """`ddpm` (ancestral, the paper's) or `dpmpp` (DPM-Solver++ 2M, deterministic, good from 10 steps)."""
    match name:
        case "ddpm":
            return AncestralSolver(schedule, timesteps, step_noise)
        case "dpmpp":
            return MultistepSolver(schedule, timesteps)
    raise ValueError(f"no solver {name!r}")


class AncestralSolver:
    """DDPM over a list of timesteps; draws noise at every step but the last."""

    def __init__(self, schedule: Schedule, timesteps: Sequence[int], step_noise: StepNoise) -> None:
        self.schedule = schedule
        self.timesteps = [*timesteps, -1]
        self.step_noise = step_noise

    def step(self, prediction_BChw: Tensor, index: int, latents_BChw: Tensor) -> Tensor:
        """z_t -> z_s, s the next timestep of the list."""
        noise = self.step_noise(index).to(latents_BChw)
        timestep, previous = self.timesteps[index : index + 2]
        return ddpm_step(self.schedule, prediction_BChw, latents_BChw, timestep, previous, noise)


class MultistepSolver:
    """DPM-Solver++ 2M (Lu et al. 2022) as diffusers implements it, on our timesteps and our schedule."""

    def __init__(self, schedule: Schedule, timesteps: Sequence[int]) -> None:
        from diffusers import DPMSolverMultistepScheduler

        betas = 1.0 - schedule.alphas_cumprod_T / torch.cat([torch.ones(1), schedule.alphas_cumprod_T[:-1]])
        self.scheduler = DPMSolverMultistepScheduler(
            num_train_timesteps=schedule.num_train_timesteps,
            trained_betas=betas.tolist(),
            prediction_type=schedule.prediction,
            algorithm_type="dpmsolver++",
            solver_order=2,
            final_sigmas_type="zero",
            lower_order_final=True,
        )
        self.scheduler.set_timesteps(timesteps=list(timesteps))
        self.scheduler.set_begin_index(0)

    def step(self, prediction_BChw: Tensor, index: int, latents_BChw: Tensor) -> Tensor:
        """z_t -> z_s; keeps the last prediction, so steps must be taken in order."""
        timestep = self.scheduler.timesteps[index]
        return self.scheduler.step(prediction_BChw, timestep, latents_BChw, return_dict=False)[0]
