"""Kinds of captioner: what says in words how an image is degraded."""

from typing import Annotated, Literal

from pydantic import Field

from spasemsr.backends.identity import Identity, identify
from spasemsr.scenes.spec import ScenesSpec
from spasemsr.spec import NUMBER, Endpoint, Positive, Spec, WeightsSpec

VERSIONS = {"rules": 1, "llava": 1, "known": 1}  # raised when the same image gets another caption


class RuleCaptionerSpec(Spec):
    """Embedded captioner: blur, noise, blocking and contrast measured on lr, said in a fixed vocabulary."""

    kind: Literal["rules"]
    batch_size: Positive = 1


class LlavaCaptionerSpec(WeightsSpec):
    """LLaVA answers one fixed question, greedily; see `backends/networks/answers.py` for what is made of answers.

    With `endpoint`, the address of a server that speaks OpenAI's chat protocol (vLLM, SGLang), it answers there, and
    `source` is the name under which it is served.
    """

    kind: Literal["llava"]
    precision: Literal["fp32", "bf16", "fp16", "nf4"] = "bf16"  # type: ignore[assignment]  # one more than others
    endpoint: Endpoint | None = None
    question: Annotated[str, Field(min_length=1)]
    max_new_tokens: Positive = 128
    max_words: Positive = 60
    max_content_words: Annotated[int, Field(ge=0), NUMBER] = 2
    batch_size: Positive = 1


class KnownCaptionerSpec(Spec):
    """How strong the textures of a procedural scene are; in `params.yaml` `scenes` is `data.scenes`."""

    kind: Literal["known"]
    scenes: ScenesSpec
    batch_size: Positive = 1


CaptionerSpec = Annotated[RuleCaptionerSpec | LlavaCaptionerSpec | KnownCaptionerSpec, Field(discriminator="kind")]


def identity_of(spec: CaptionerSpec) -> Identity:
    """What writes the captions."""
    return identify(spec, VERSIONS)
