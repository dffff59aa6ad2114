"""The base denoiser and the forward diffusion: sections of `model` that all latent methods share, no torch import."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spasemsr.spec import NUMBER, Fraction, Positive, Revision, Spec, later


class RandomBaseSpec(Spec):
    """The base denoiser starts from random weights of the sizes in `model.unet`."""

    kind: Literal["random"] = "random"


class PretrainedBaseSpec(Spec):
    """The base denoiser is the `unet` folder of a Stable Diffusion checkpoint, whose sizes `model.unet` must state."""

    kind: Literal["pretrained"]
    source: Annotated[str, Field(min_length=1)]
    revision: Revision | None = None


BaseSpec = Annotated[RandomBaseSpec | PretrainedBaseSpec, Field(discriminator="kind")]


class UNetSpec(Spec):
    """The base denoiser, a diffusers UNet2DConditionModel with SD 2.1's topology; defaults are SD 2.1-base."""

    block_out_channels: tuple[Positive, Positive, Positive, Positive] = (320, 640, 1280, 1280)
    attention_heads: tuple[Positive, Positive, Positive, Positive] = (5, 10, 20, 20)
    norm_num_groups: Positive = 32
    sample_size: Positive = 64

    @model_validator(mode="after")
    def _divisible(self) -> "UNetSpec":
        for width, heads in zip(self.block_out_channels, self.attention_heads, strict=True):
            if width % heads or width % self.norm_num_groups:
                raise ValueError(
                    f"width {width} must be a multiple of its {heads} heads and of norm_num_groups "
                    f"{self.norm_num_groups}"
                )
        return self


class ScheduleSpec(Spec):
    """The forward diffusion of SD 2.1: variance schedule and what the network predicts.

    `sample` is z_0 itself; `residual` is z_0 minus the latents of what `model.input` shows, so an untrained network
    returns just that.
    `last_share` of the training samples are at the last timestep, pure noise, where z_0 is regressed from lr alone; the
    others are uniform. `perceptual` is the weight of ST-LPIPS between what these become in one step and hr, where that
    is how results are made; no paper of the four has it.
    """

    prediction: Literal["epsilon", "v_prediction", "sample", "residual"] = "epsilon"
    num_train_timesteps: Annotated[int, Field(ge=2), NUMBER] = 1000
    last_share: Annotated[float, Field(ge=0.0, lt=1.0), NUMBER] = 0.0
    perceptual: Annotated[float, Field(ge=0.0), NUMBER] = 0.0
    beta_start: Annotated[float, Field(gt=0.0, lt=1.0), NUMBER] = 0.00085
    beta_end: Annotated[float, Field(gt=0.0, lt=1.0), NUMBER] = 0.012

    @model_validator(mode="after")
    def _one_step_is_an_image(self) -> "ScheduleSpec":
        if self.perceptual and (self.prediction not in ("sample", "residual") or not self.last_share):
            raise ValueError(
                "perceptual judges one step from the last timestep: it needs prediction: sample or residual, "
                "and a last_share above 0"
            )
        return self

    @model_validator(mode="after")
    def _noise_grows(self) -> "ScheduleSpec":
        if self.beta_start > self.beta_end:
            told = "noise grows along the schedule; lower the first, or raise the second"
            raise ValueError(f"beta_start, {self.beta_start:g}, is above beta_end, {self.beta_end:g}: {told}")
        return self


Precision = Literal["fp32", "bf16"]  # of a network in training and sampling; autoencoders are always exact


Spacing = Literal["leading", "trailing"]


class SampleSpec(Spec):
    """Inference: solver, guidance, LR-embedded start (LRE) and colour fix.

    `start` is the share of the schedule at which sampling begins: 1 is the paper's LRE from the first timestep, less
    starts from a less noisy LR latent and stays closer to it. `share` of what the network adds is added, where it
    predicts the residual to what it is shown. `emphasis` is how many times over counts what a person says of a place.
    """

    solver: Literal["ddpm", "dpmpp"] = "ddpm"
    steps: Positive = 50
    spacing: Spacing = "leading"
    guidance: Annotated[float, Field(ge=0.0), NUMBER] = 4.5
    start: Annotated[float, Field(gt=0.0, le=1.0), NUMBER] = 1.0
    lre: bool = True
    conditioning_scale: Annotated[float, Field(ge=0.0), NUMBER] = 1.0
    share: Fraction = 1.0
    emphasis: Annotated[float, Field(ge=0.0), NUMBER] = later(14.0)
    colorfix: Literal["adain", "wavelet", "none"] = "adain"
    positive: str = "clean, high-resolution, 8k"
    negative: str = "dotted, noise, blur, lowres, smooth"
    tile: Annotated[int, Field(ge=16), NUMBER] = 96
    tile_overlap: Annotated[int, Field(ge=0), NUMBER] = 16
