"""The typed form of `params.yaml`: parsed and validated once, frozen, no torch import.

Every number that can change a byte of an output lives here; workers, executor, devices and cache folder do not.
Unknown keys and wrong types are refused before any work, by key, value and what is allowed. Defaults are paper scale;
`params.yaml` states every value of a profile anyway, because DVC sees only what the file says.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from spasemsr.backend_specs import (
    AutoencoderSpec,
    CaptionerSpec,
    DetectorSpec,
    ExtractorSpec,
    Fraction,
    Positive,
    RestorerSpec,
    SegmenterSpec,
    Spec,
    TaggerSpec,
    TextEncoderSpec,
)
from spasemsr.config_messages import explain
from spasemsr.errors import UserError
from spasemsr.model_specs import ModelSpec

Range = tuple[float, float]
MethodName = Literal["spasemsr"]
MetricName = Literal["psnr", "ssim", "niqe", "lpips", "dists", "musiq", "maniqa", "maniqa-pipal", "clipiqa"]
SweepName = Literal["dial", "start", "guidance", "steps", "colorfix", "consistency"]
ProfileName = Literal["embedded", "foundation"]


class DegradationRanges(Spec):
    """Ranges of the second-order Real-ESRGAN chain; `None` takes the preset's value (`data/degradation.py`)."""

    resize_range: Range | None = None
    noise_range: Range | None = None
    poisson_scale_range: Range | None = None
    jpeg_range: Range | None = None
    second_blur_prob: Fraction | None = None
    resize_range2: Range | None = None
    noise_range2: Range | None = None
    poisson_scale_range2: Range | None = None
    jpeg_range2: Range | None = None


class DegradationSpec(Spec):
    """Real-ESRGAN degradations: a named preset and what is changed in it; `usm_target` sharpens hr before degrading."""

    preset: Literal["seesr", "stablesr"] = "seesr"
    usm_target: bool = False
    override: DegradationRanges = DegradationRanges()


class DataSpec(Spec):
    """Which photographs, how they are split by image and cut into patches; sizes in pixels."""

    packages: tuple[Literal["skimage", "sklearn", "matplotlib"], ...] = ()
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    patch: Annotated[int, Field(ge=80)] = 512
    stride: Positive = 512
    max_patches: Positive = 1000
    val_patch: Annotated[int, Field(ge=80)] = 512
    val_max_patches: Positive = 1
    variants: Positive = 1
    num_buckets: Positive = 64
    max_pixels: Positive = 100_000_000
    max_bytes: Positive = 200_000_000
    max_reject_rate: Fraction = 0.5

    @model_validator(mode="after")
    def _sizes(self) -> "DataSpec":
        for name in ("patch", "val_patch"):
            if getattr(self, name) % 64:
                raise ValueError(f"{name} must be a multiple of 64 (8 latent cells of 8 pixels)")
        return self


class GroundSpec(Spec):
    """Grounded-SAM: tags -> boxes -> masks, then the selection rule of the paper's setting."""

    tagger: TaggerSpec
    detector: DetectorSpec
    segmenter: SegmenterSpec
    max_objects: Positive = 20
    nms_iou: Fraction = 0.5
    min_area: Fraction = 0.002
    batch_size: Positive = 1


class SpaSemFeaturesSpec(Spec):
    """What the method `spasemsr` needs besides the common columns."""

    sam: ExtractorSpec


class FeaturesSpec(Spec):
    """Extractors by method."""

    spasemsr: SpaSemFeaturesSpec


class TrainSpec(Spec):
    """The training run; `controlnet_weight` is lambda_ControlNet of eq. 12, `init` a folder of weights or null.

    The learning rate rises over `warmup_steps`, stays, and falls to zero over the last `cooldown_steps`, both linearly.
    `accumulate` cuts each process's share of `global_batch` into so many micro-batches; it, `gradient_checkpointing`,
    `optimizer`, `compile` and `channels_last` trade memory for time and change results by rounding at most, except that
    adamw8bit keeps its moments in 8 bits.
    """

    init: str | None = None
    steps: Positive = 200_000
    global_batch: Positive = 32
    lr: Annotated[float, Field(gt=0.0)] = 5e-5
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    cooldown_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-2
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    ema_decay: Fraction = 0.0
    precision: Literal["fp32", "bf16"] = "bf16"
    accumulate: Positive = 1
    gradient_checkpointing: bool = False
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    compile: bool = False
    channels_last: bool = False
    controlnet_weight: Annotated[float, Field(ge=0.0)] = 0.05
    save_every: Positive = 1000
    log_every: Positive = 10


class SampleSpec(Spec):
    """Inference: solver, guidance, LR-embedded start (LRE) and colour fix.

    `start` is the share of the schedule at which sampling begins: 1 is the paper's LRE from the first timestep, less
    starts from a less noisy LR latent and stays closer to it.
    """

    solver: Literal["ddpm", "dpmpp"] = "ddpm"
    steps: Positive = 50
    guidance: Annotated[float, Field(ge=0.0)] = 4.5
    start: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    lre: bool = True
    conditioning_scale: Annotated[float, Field(ge=0.0)] = 1.0
    colorfix: Literal["adain", "wavelet", "none"] = "adain"
    positive: str = "clean, high-resolution, 8k"
    negative: str = "dotted, noise, blur, lowres, smooth"
    tile: Annotated[int, Field(ge=16)] = 96
    tile_overlap: Annotated[int, Field(ge=0)] = 16


class EvaluateSpec(Spec):
    """Which metrics, and how images are restored for them."""

    metrics: tuple[MetricName, ...] = ("psnr", "ssim", "niqe")
    batch_size: Positive = 1
    sample: SampleSpec = SampleSpec()


class DialSpec(Spec):
    """Which sampling-time settings of trained weights are swept, on the first `images` (0: all) of the split.

    `seeds` results of each of these images make the map of what the network invents.
    """

    sweeps: tuple[SweepName, ...] = ("dial", "consistency")
    images: Annotated[int, Field(ge=0)] = 8
    seeds: Annotated[int, Field(ge=2)] = 4


class Profile(Spec):
    """One complete set of backends and sizes."""

    data: DataSpec
    restore: RestorerSpec
    ground: GroundSpec
    caption: CaptionerSpec
    autoencoder: AutoencoderSpec
    text_encoder: TextEncoderSpec
    features: FeaturesSpec
    model: ModelSpec
    train: TrainSpec
    evaluate: EvaluateSpec
    dial: DialSpec = DialSpec()


class Params(Spec):
    """The whole of `params.yaml`; `active` is the profile in use, and every profile is validated on every load."""

    profile: ProfileName
    photographs: str
    lambda_: Annotated[Fraction, Field(alias="lambda")]
    seed: int
    scale: Literal[4]
    methods: tuple[MethodName, ...]
    degradation: DegradationSpec
    embedded: Profile
    foundation: Profile

    @property
    def active(self) -> Profile:
        """The section of the chosen profile."""
        return getattr(self, self.profile)

    @model_validator(mode="after")
    def _across_sections(self) -> "Params":
        for name in get_args(ProfileName):
            _check_profile(getattr(self, name), name)
        return self


def _check_profile(profile: Profile, name: str) -> None:
    """What no section can check alone."""
    widths = profile.model.unet.block_out_channels
    for width, heads in zip(widths, profile.model.unet.attention_heads, strict=True):
        if width % heads or width % profile.model.unet.norm_num_groups:
            raise ValueError(
                f"{name}.model.unet: width {width} must be a multiple of its {heads} heads "
                f"and of norm_num_groups {profile.model.unet.norm_num_groups}"
            )
    if profile.model.objects.max < profile.ground.max_objects:
        raise ValueError(
            f"{name}.model.objects.max is {profile.model.objects.max}, "
            f"but {name}.ground.max_objects is {profile.ground.max_objects}: the model must take them all"
        )
    if profile.train.warmup_steps > profile.train.steps:
        raise ValueError(f"{name}.train.warmup_steps exceeds {name}.train.steps, {profile.train.steps}")
    if profile.train.global_batch % profile.train.accumulate:
        raise ValueError(f"{name}.train.accumulate must divide {name}.train.global_batch, {profile.train.global_batch}")


class InferenceSpec(Spec):
    """What upscaling needs beside the weights: the chain that annotates an image as in training, and how to sample.

    `sample` is null in a project, where `evaluate.sample` of `params.yaml` says it; a released folder states it.
    """

    profile: ProfileName
    restore: RestorerSpec
    ground: GroundSpec
    caption: CaptionerSpec
    sample: SampleSpec | None = None


class ModelConfig(Spec):
    """`config.json` beside trained weights: all it takes to build the model again, and what it was trained on."""

    method: MethodName
    seed: int
    scale: Literal[4]
    lambda_: Annotated[Fraction, Field(alias="lambda")]
    controlnet_weight: float
    model: ModelSpec
    autoencoder: AutoencoderSpec
    text_encoder: TextEncoderSpec
    feature_channels: Positive
    identities: dict[str, dict[str, Any]]
    columns: dict[str, str]
    inference: InferenceSpec


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate `params.yaml`.

    Raises UserError naming every offending key, its value and what is allowed.
    """
    import yaml  # kept out of the import of this module: pydantic alone is enough for building specs in code

    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"No {path} in {Path.cwd().name}/.", "Run from the project's folder.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}", "Correct the line named above.") from None
    return parse_params(raw, str(path))


def parse_params(raw: Any, origin: str) -> Params:
    """Validate parsed YAML; `origin` is the file's name for messages. Raises UserError."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [explain(item, Params) for item in error.errors()]
        raise UserError(f"{origin}: " + "; ".join(lines), "Correct the values above; nothing was run.") from None
