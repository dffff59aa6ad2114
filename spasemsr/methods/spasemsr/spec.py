"""What SpaSemSR is made of: its section of `params.yaml` and its `config.json`, no torch import.

Defaults are the paper's sizes. Shapes and reasons stand at the modules that are built from these.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from spasemsr.backends.autoencoder.spec import AutoencoderSpec
from spasemsr.backends.extractors.spec import ExtractorSpec
from spasemsr.backends.text_encoder.spec import TextEncoderSpec
from spasemsr.methods.face import Section
from spasemsr.methods.guided_spec import AroundBaseSpec
from spasemsr.methods.model_config import ModelConfig
from spasemsr.spec import NUMBER, Fraction, Positive, Spec, later

FEATURES = "features/spasemsr"  # the method's own column


class ConstraintSpec(Spec):
    """Which halves of L_SemDeg (eq. 9) are on; off removes the term and its heads, the other keeps its weight."""

    img: bool = True
    sem: bool = True


class SpatialSpec(Spec):
    """How objects are tied to their places.

    `boxes` off: the displacement of eq. 5 is zero in training and inference, equal tags are merged, and nothing is
    bound. `binding`: a box is known to the object's keys alone, as in the paper, or also lowers the attention of cells
    outside of it (`bias`, see `binding.py`).
    """

    boxes: bool = True
    binding: Literal["keys", "bias"] = "keys"


class ObjectsSpec(Spec):
    """How objects become text: at most `max` objects of `tokens` text rows each."""

    max: Positive = 20
    tokens: Annotated[int, Field(ge=2), NUMBER] = 8


class TextSpec(Spec):
    """Which text there is beside the base's prompt and the caption.

    `objects` off: no object becomes text, with or without its box; SpaAtten and SpaTextAtten see the null object alone.
    """

    objects: bool = True


class EncodersSpec(Spec):
    """E_img and E_sem: widths of the hint stack and the number of ConvNeXt blocks of E_sem.

    `sem` off: there is no E_sem, and E_img fills all channels of x_sem-img.
    """

    hint_channels: tuple[Positive, Positive, Positive, Positive] = (16, 32, 96, 256)
    sem_blocks: Annotated[int, Field(ge=0), NUMBER] = 4
    sem: bool = later(True)


class AttentionSpec(Spec):
    """Which building block each added attention is: `full` (Full2D) or `cross` (Cross2D).

    A preset may stand in its place: `paper`, or `light`, all Cross2D (594,748,308 trained parameters instead of
    966,993,428).
    """

    deg: Literal["full", "cross"] = "full"
    spasem: Literal["full", "cross"] = "full"
    spatext: Literal["full", "cross"] = "cross"
    semimg: Literal["full", "cross"] = "full"


LIGHT = {"deg": "cross", "spasem": "cross", "spatext": "cross", "semimg": "cross"}


def _attention_preset(value: Any) -> Any:
    """The name of a preset -> what it stands for."""
    presets: dict[str, dict[str, str]] = {"paper": {}, "light": LIGHT}
    return presets.get(value, value) if isinstance(value, str) else value


class DropSpec(Spec):
    """Probabilities of dropping each condition in training, which makes guidance possible.

    `together` drops text and caption at once, beside what each drops alone: guidance's other branch has neither.
    """

    text: Fraction = 0.1
    caption: Fraction = 0.1
    boxes: Fraction = 0.1
    object: Fraction = 0.1
    together: Fraction = 0.0


class ModelSpec(AroundBaseSpec):
    """SpaSemSR around one base denoiser; defaults are paper scale (966,993,428 trained parameters).

    `input` is what E_img, E_sem and the LR start are shown. On four points the paper can be read otherwise.

    - `base_text`, what the base's own text attention reads: `tags` as a prompt; `empty`, no tags, in sampling the
      positive and negative words alone; or `spa`, e_spa-text, the objects with their places, and no words.
    - `hyb_tap`, what the heads of eq. 9 are shown: `residual`, r_i as it is added to the base, or `hidden`, the state
      h_i before its zero conv, so that the constraint reaches the layers behind it from the first step.
    - `text.objects` off is another "w/o spatial" of Table 4, `encoders.sem` off another "w/o semantic" of Table 3.
    """

    encoders: EncodersSpec = EncodersSpec()
    objects: ObjectsSpec = ObjectsSpec()
    fusion_width: Positive = 512
    attention: Annotated[AttentionSpec, BeforeValidator(_attention_preset)] = AttentionSpec()
    constraint: ConstraintSpec = ConstraintSpec()
    spatial: SpatialSpec = SpatialSpec()
    drop: DropSpec = DropSpec()
    text: TextSpec = later(TextSpec())
    base_text: Literal["tags", "empty", "spa"] = later("tags")
    hyb_tap: Literal["residual", "hidden"] = later("residual")

    @model_validator(mode="after")
    def _some_text(self) -> Self:
        if self.base_text == "spa" and not self.text.objects:
            raise ValueError("base_text: spa gives the base the objects' text, and text.objects is off")
        return self

    @property
    def places(self) -> bool:
        """Whether the network is told where objects are."""
        return self.spatial.boxes and self.text.objects

    @property
    def columns(self) -> frozenset[str]:
        """The columns whose samples training reads, joined by key."""
        return self.restore_columns | {"latents", FEATURES}

    @property
    def restore_columns(self) -> frozenset[str]:
        """What restoring reads; the restorer's image only where the network is shown it."""
        return frozenset({"lr", "objects", "caption"} | ({"restored"} if self.input == "restored" else set()))


class FeaturesSpec(Spec):
    """What is extracted from hr: the reference of the semantic half of eq. 9, SAM's features in the paper."""

    sam: ExtractorSpec


class SpaSemSection(Section):
    """The method's part of a profile; `controlnet_weight` is lambda_ControlNet of eq. 12."""

    model: ModelSpec
    features: FeaturesSpec
    controlnet_weight: Annotated[float, Field(ge=0.0), NUMBER] = 0.05


class SpaSemConfig(ModelConfig):
    """`config.json` beside the method's weights; `feature_channels` are those of the semantic reference."""

    method: Literal["spasemsr"]
    lambda_: Annotated[Fraction, Field(alias="lambda")]
    controlnet_weight: float
    model: ModelSpec
    autoencoder: AutoencoderSpec
    text_encoder: TextEncoderSpec
    feature_channels: Positive
