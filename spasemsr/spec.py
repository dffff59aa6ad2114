"""The base of every typed section of `params.yaml`: frozen, and an unknown key is an error.

Every backend is one class with a `kind`; a section is a union of them. Weight-free (embedded) kinds need nothing else;
the others name their weights: `source` is an entry of `spasemsr models list`, or a folder or file, `revision` a commit.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


def _each_once(listed: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [value for place, value in enumerate(listed) if value in listed[:place]]:
        raise ValueError(f"{twice[0]} stands there twice; leave one out")
    return listed


# Last in an annotation, so that the schema for editors still shows what stands before them.
NUMBER = BeforeValidator(_no_truth)  # pydantic takes `true` for 1: `lambda: true` would give results nobody asked for
DISTINCT = AfterValidator(_each_once)

Fraction = Annotated[float, Field(ge=0.0, le=1.0), NUMBER]
Positive = Annotated[int, Field(ge=1), NUMBER]
Precision = Literal["fp32", "bf16", "fp16"]
Endpoint = Annotated[str, Field(pattern=r"^https?://\S+$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


def later(default: Any) -> Any:
    """A field that `plain` leaves out while it has its default: `params.yaml` need not state it.

    For switches that came later than results did: their defaults change no name of a run, of weights or of a picture.
    """
    return Field(default=default, exclude_if=lambda value: value == default)


class Spec(BaseModel):
    """Base of every section: frozen; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """The section as JSON-ready values, with the names `params.yaml` uses."""
        return self.model_dump(mode="json", by_alias=True)

    def content(self) -> dict[str, Any]:
        """`plain` without where weights lie: what can change a byte once the identity of the weights is known."""
        return _without_places(self.plain())


def _without_places(section: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _without_places(value) if isinstance(value, dict) else value for key, value in section.items()}
    places = ("source", "revision", "endpoint", "tokenizer") if "kind" in inner else ()
    return {key: value for key, value in inner.items() if key not in places}


class WeightsSpec(Spec):
    """Base of what has weights; without `revision` a registry model is the registry's own commit."""

    parts: ClassVar[tuple[str, ...]] = ()  # sub-folders of the checkpoint that are read; none means all of it
    source: Annotated[str, Field(min_length=1)]
    revision: Revision | None = None
    precision: Precision = "bf16"
