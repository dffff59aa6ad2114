"""Which foreign models compute what: the typed sections of `params.yaml` that `build_*` functions take.

Every backend is one class with a `kind`; a section is a union of them. Weight-free (embedded) kinds need nothing else;
the others name their weights: `source` is an entry of `spasemsr models list`, or a folder or file, `revision` a commit.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Precision = Literal["fp32", "bf16", "fp16"]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Spec(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def plain(self) -> dict[str, Any]:
        """The section as JSON-ready values, with the names `params.yaml` uses."""
        return self.model_dump(mode="json", by_alias=True)

    def content(self) -> dict[str, Any]:
        """`plain` without where weights lie: what can change a byte once the identity of the weights is known."""
        return _without_places(self.plain())


def _without_places(section: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _without_places(value) if isinstance(value, dict) else value for key, value in section.items()}
    places = ("source", "revision") if "kind" in inner else ()
    return {key: value for key, value in inner.items() if key not in places}


class WeightsSpec(Spec):
    """Base of what has weights; without `revision` a registry model is the registry's own commit."""

    source: Annotated[str, Field(min_length=1)]
    revision: Revision | None = None
    precision: Precision = "bf16"


class FilterRestorerSpec(Spec):
    """A restorer without weights: an edge-preserving filter on lr, then bicubic."""

    kind: Literal["filter"]
    batch_size: Positive = 1


class CompactRestorerSpec(Spec):
    """Embedded restorer: a small network (Real-ESRGAN's Compact) whose weights ship with this project."""

    kind: Literal["compact"]
    batch_size: Positive = 1


class SpandrelRestorerSpec(WeightsSpec):
    """Any x4 network that spandrel knows (RRDBNet, SwinIR, ...), in tiles of `tile` lr pixels with a margin."""

    kind: Literal["spandrel"]
    tile: Annotated[int, Field(ge=32)] = 512
    margin: Annotated[int, Field(ge=0)] = 16
    batch_size: Positive = 1


class PaletteTaggerSpec(Spec):
    """Embedded tagger: colour and texture classes of smooth regions."""

    kind: Literal["palette"]


class VocabularyTaggerSpec(Spec):
    """Every name of a list is asked for in every image; the detector decides. `names`: one per line, null is ours."""

    kind: Literal["vocabulary"]
    names: str | None = None


class LlavaTaggerSpec(WeightsSpec):
    """LLaVA lists the objects of an image."""

    kind: Literal["llava"]
    precision: Literal["fp32", "bf16", "fp16", "nf4"] = "bf16"
    question: Annotated[str, Field(min_length=1)]
    max_new_tokens: Positive = 96
    max_tags: Positive = 20


class ComponentDetectorSpec(Spec):
    """Embedded detector: connected components of the tagger's classes."""

    kind: Literal["components"]
    min_score: Fraction = 0.25


class GroundingDinoSpec(WeightsSpec):
    """GroundingDINO: tags as text, in chunks of as many as its 256 tokens hold."""

    kind: Literal["grounding_dino"]
    min_score: Fraction = 0.25


class ComponentSegmenterSpec(Spec):
    """Embedded segmenter: the component inside each box."""

    kind: Literal["components"]


class SamSizeSpec(Spec):
    """The image encoder of a Segment Anything checkpoint that is none of the three published ones."""

    width: Positive
    depth: Positive
    heads: Positive
    global_attention: tuple[Annotated[int, Field(ge=0)], ...]
    image_size: Positive = 1024
    channels: Positive = 256


SamArchitecture = Literal["vit_h", "vit_l", "vit_b"] | SamSizeSpec


class SamSegmenterSpec(WeightsSpec):
    """Segment Anything: the mask of each box."""

    kind: Literal["sam"]
    architecture: SamArchitecture = "vit_h"


class RuleCaptionerSpec(Spec):
    """Embedded captioner: blur, noise, blocking and contrast measured on lr, said in a fixed vocabulary."""

    kind: Literal["rules"]
    batch_size: Positive = 1


class LlavaCaptionerSpec(WeightsSpec):
    """LLaVA answers one fixed question, greedily; see `backends/foundation/captions.py` for what is made of answers."""

    kind: Literal["llava"]
    precision: Literal["fp32", "bf16", "fp16", "nf4"] = "bf16"
    question: Annotated[str, Field(min_length=1)]
    max_new_tokens: Positive = 128
    max_words: Positive = 60
    max_content_words: Annotated[int, Field(ge=0)] = 2
    batch_size: Positive = 1


class BlockDCTSpec(Spec):
    """Embedded autoencoder (DCTdiff): 8x8 block DCT of YCbCr, the `keep` x `keep` lowest terms, 3 keep^2 channels."""

    kind: Literal["block_dct"]
    keep: Annotated[int, Field(ge=1, le=8)] = 4
    batch_size: Positive = 1


class AutoencoderKLSpec(WeightsSpec):
    """Stable Diffusion's autoencoder: the `vae` folder of a checkpoint."""

    kind: Literal["autoencoder_kl"]
    precision: Precision = "fp32"
    batch_size: Positive = 1


class HashedTextSpec(Spec):
    """Embedded text encoder: a fixed Gaussian vector per word."""

    kind: Literal["hashed"]
    width: Positive = 64
    length: Annotated[int, Field(ge=4)] = 16


class ClipTextSpec(WeightsSpec):
    """CLIP's text model: the `text_encoder` and `tokenizer` folders of a Stable Diffusion checkpoint."""

    kind: Literal["clip"]


class FilterBankSpec(Spec):
    """Embedded image features in the place of SAM: fixed multi-scale filters, one cell per latent cell."""

    kind: Literal["filter_bank"]
    channels: Positive = 16
    batch_size: Positive = 1


class SamFeaturesSpec(WeightsSpec):
    """Segment Anything's image encoder; `unit_scale` takes off the scale and shift of its last normalisation."""

    kind: Literal["sam"]
    architecture: SamArchitecture = "vit_h"
    unit_scale: bool = True
    batch_size: Positive = 1


class RandomBaseSpec(Spec):
    """The base denoiser starts from random weights of the sizes in `model.unet`."""

    kind: Literal["random"] = "random"


class PretrainedBaseSpec(Spec):
    """The base denoiser is the `unet` folder of a Stable Diffusion checkpoint, whose sizes `model.unet` must state."""

    kind: Literal["pretrained"]
    source: Annotated[str, Field(min_length=1)]
    revision: Revision | None = None


RestorerSpec = Annotated[FilterRestorerSpec | CompactRestorerSpec | SpandrelRestorerSpec, Field(discriminator="kind")]
TaggerSpec = Annotated[PaletteTaggerSpec | VocabularyTaggerSpec | LlavaTaggerSpec, Field(discriminator="kind")]
DetectorSpec = Annotated[ComponentDetectorSpec | GroundingDinoSpec, Field(discriminator="kind")]
SegmenterSpec = Annotated[ComponentSegmenterSpec | SamSegmenterSpec, Field(discriminator="kind")]
CaptionerSpec = Annotated[RuleCaptionerSpec | LlavaCaptionerSpec, Field(discriminator="kind")]
AutoencoderSpec = Annotated[BlockDCTSpec | AutoencoderKLSpec, Field(discriminator="kind")]
TextEncoderSpec = Annotated[HashedTextSpec | ClipTextSpec, Field(discriminator="kind")]
ExtractorSpec = Annotated[FilterBankSpec | SamFeaturesSpec, Field(discriminator="kind")]
BaseSpec = Annotated[RandomBaseSpec | PretrainedBaseSpec, Field(discriminator="kind")]
