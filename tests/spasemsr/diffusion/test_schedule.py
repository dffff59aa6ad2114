"""Schedule, solvers, guidance and the LR-embedded start, against diffusers and against closed forms."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.diffusion.sampling import guide, initial_latents, sample
from spasemsr.diffusion.schedule import Schedule, ddpm_step
from spasemsr.diffusion.spec import SampleSpec, ScheduleSpec
from spasemsr.errors import UserError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


def schedule_of(prediction="epsilon") -> Schedule:
    return Schedule.of(ScheduleSpec(prediction=prediction))


def reference(prediction="epsilon") -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction,
        clip_sample=False, steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip


def gaussians(count=3, batch=2):
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 4, 5, 6, generator=draw) for _ in range(count)]


def no_noise(index):
    raise AssertionError("a deterministic solver drew noise")


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_noising_and_targets_are_those_of_diffusers(prediction):
    schedule, scheduler = schedule_of(prediction), reference(prediction)
    latents, noise, _ = gaussians()
    timesteps = torch.tensor([3, 871])
    assert torch.equal(schedule.alphas_cumprod_T, scheduler.alphas_cumprod)
    assert torch.equal(schedule.add_noise(latents, noise, timesteps), scheduler.add_noise(latents, noise, timesteps))
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    expected = {"epsilon": noise, "v_prediction": velocity, "sample": latents}[prediction]
    assert torch.equal(schedule.target(latents, noise, timesteps), expected)


def test_alphas_are_those_of_stable_diffusion():
    abar = schedule_of().alphas_cumprod_T
    assert abar[999].item() == pytest.approx(0.00466, abs=5e-6)
    assert abar[981].item() == pytest.approx(0.00578, abs=5e-6)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(PREDICTIONS), st.integers(0, 900))
def test_the_clean_latents_follow_from_the_target(prediction, timestep):
    schedule = schedule_of(prediction)
    latents, noise, _ = gaussians()
    timesteps = torch.tensor([timestep, 900 - timestep])
    noisy = schedule.add_noise(latents, noise, timesteps)
    clean = schedule.clean(schedule.target(latents, noise, timesteps), noisy, timesteps)
    assert torch.allclose(clean, latents, atol=2e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_one_ancestral_step_is_that_of_diffusers(prediction):
    schedule, scheduler = schedule_of(prediction), reference(prediction)
    scheduler.set_timesteps(50)
    noisy, output, _ = gaussians()
    for timestep, previous in ((981, 961), (21, 1), (1, -19)):
        theirs = scheduler.step(output, timestep, noisy, generator=torch.Generator().manual_seed(5)).prev_sample
        drawn = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(5))
        ours = ddpm_step(schedule, output, noisy, timestep, max(previous, -1), drawn)
        assert torch.allclose(ours, theirs, atol=1e-5), timestep


def test_timesteps_are_the_leading_list():
    schedule, scheduler = schedule_of(), reference()
    scheduler.set_timesteps(50)
    assert schedule.sampling_timesteps(50) == scheduler.timesteps.tolist() == list(range(981, 0, -20))
    assert schedule.sampling_timesteps(10, 0.3) == list(range(271, 0, -30))
    assert schedule.sampling_timesteps(1000) == list(range(999, -1, -1))
    assert schedule.sampling_timesteps(3, 0.003) == [2, 1, 0]
    assert schedule.sampling_timesteps(3, spacing="trailing") == [999, 666, 332]
    assert schedule.sampling_timesteps(4, 0.3, "trailing") == [299, 224, 149, 74]
    assert schedule.sampling_timesteps(1000, spacing="trailing") == list(range(999, -1, -1))
    assert schedule.sampling_timesteps(1, spacing="trailing") == [999]
    assert schedule.sampling_timesteps(1) == [999] and schedule.sampling_timesteps(1, 0.3) == [299]


@settings(deadline=None)
@given(st.integers(1, 1000), st.floats(0.01, 1.0))
def test_timesteps_descend_within_the_share_or_are_refused(steps, start):
    schedule = schedule_of()
    if round(start * 1000) < steps:
        with pytest.raises(UserError, match=r"sample\.steps"):
            schedule.sampling_timesteps(steps, start)
        return
    timesteps = schedule.sampling_timesteps(steps, start)
    assert len(timesteps) == steps
    assert timesteps == sorted(set(timesteps), reverse=True)
    assert (0 <= timesteps[-1] <= 1 or steps == 1) and timesteps[0] < max(start * 1000 + 0.5, 1.5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("solver", ["ddpm", "dpmpp"])
@pytest.mark.parametrize(("steps", "start"), [(10, 0.3), (50, 1.0), (1, 1.0)])
def test_a_perfect_network_is_sampled_to_the_truth(prediction, solver, steps, start):
    schedule, spec = schedule_of(prediction), SampleSpec(solver=solver, steps=steps, start=start)
    truth, noise, _ = gaussians()

    def predict(latents, timestep):
        timesteps = torch.full((len(latents),), timestep)
        signal, sigma = schedule.levels(timesteps, latents)
        return schedule.target(truth, (latents - signal * truth) / sigma, timesteps)

    def step_noise(index):
        return torch.randn(truth.shape, generator=torch.Generator().manual_seed(index))

    latents = initial_latents(schedule, spec, truth, noise)
    result = sample(predict, latents, schedule, spec, no_noise if solver == "dpmpp" else step_noise)
    assert torch.allclose(result, truth, atol=5e-3)


def test_guidance_at_its_limits():
    conditional, unconditional, _ = gaussians()
    assert torch.allclose(guide(conditional, unconditional, 1.0), conditional, atol=1e-6)
    assert torch.equal(guide(conditional, unconditional, 0.0), unconditional)
    beyond = guide(conditional, unconditional, 3.0)
    assert torch.allclose(beyond - conditional, 2 * (conditional - unconditional), atol=1e-5)


@pytest.mark.parametrize(("steps", "start", "tau"), [(50, 1.0, 981), (10, 0.3, 271)])
def test_the_lr_start_has_the_mean_and_variance_of_its_timestep(steps, start, tau):
    schedule, spec = schedule_of(), SampleSpec(steps=steps, start=start)
    lr_latents = torch.full((1, 1, 200, 200), 1.7)
    noise = torch.randn(lr_latents.shape, generator=torch.Generator().manual_seed(1))
    drawn = initial_latents(schedule, spec, lr_latents, noise)
    abar = schedule.alphas_cumprod_T[tau].item()
    assert drawn.mean().item() == pytest.approx(abar**0.5 * 1.7, abs=0.02)
    assert drawn.var().item() == pytest.approx(1 - abar, rel=0.03)
    assert torch.equal(initial_latents(schedule, spec, lr_latents, 0 * noise), abar**0.5 * lr_latents)


def test_without_the_lr_start_sampling_begins_with_noise_at_the_top():
    lr_latents, noise, _ = gaussians()
    assert torch.equal(initial_latents(schedule_of(), SampleSpec(lre=False), lr_latents, noise), noise)
    with pytest.raises(UserError, match=r"sample\.lre"):
        initial_latents(schedule_of(), SampleSpec(lre=False, start=0.5), lr_latents, noise)
