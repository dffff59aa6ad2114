"""The typed form of `params.yaml`: parsed and validated once, frozen, no torch import.

Every number that can change a byte of an output lives here; workers, executor, devices and cache folder do not.
Unknown keys and wrong types are refused before any work, by key, value and what is allowed. Defaults are paper scale;
`params.yaml` states every value of a profile anyway, because DVC sees only what the file says.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from spasemsr.backends.autoencoder.spec import AutoencoderSpec
from spasemsr.backends.captioner.spec import CaptionerSpec
from spasemsr.backends.extractors.spec import ExtractorSpec
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.restorer.spec import RestorerSpec
from spasemsr.backends.text_encoder.spec import TextEncoderSpec
from spasemsr.config_messages import explain
from spasemsr.data.spec import DataSpec, DegradationSpec
from spasemsr.errors import UserError
from spasemsr.evaluation.spec import DialSpec, EvaluateSpec
from spasemsr.methods.spasemsr.spec import ModelSpec
from spasemsr.spec import Fraction, Spec
from spasemsr.training.spec import TrainSpec

MethodName = Literal["spasemsr"]
ProfileName = Literal["embedded", "probe", "foundation"]


class SpaSemFeaturesSpec(Spec):
    """What the method `spasemsr` needs besides the common columns."""

    sam: ExtractorSpec


class FeaturesSpec(Spec):
    """Extractors by method."""

    spasemsr: SpaSemFeaturesSpec


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

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        """A `known` backend knows the scenes of `data`: they are stated there alone."""
        data = raw.get("data") if isinstance(raw, dict) else None
        scenes = data.get("scenes") if isinstance(data, dict) else None
        return raw if scenes is None else _with_scenes(raw, scenes)


def _with_scenes(section: dict[str, Any], scenes: Any) -> dict[str, Any]:
    filled = {key: _with_scenes(value, scenes) if isinstance(value, dict) else value for key, value in section.items()}
    return {"scenes": scenes, **filled} if filled.get("kind") == "known" else filled


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
    probe: Profile
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
