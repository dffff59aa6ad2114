"""What a person may ask of one picture, and what the dial from faithful to sharp does to the sampling.

Where a model adds to the image of a restorer that leads from faithful to sharp by itself (`restore: {kind: aware}`),
the dial moves that restorer, and on both sides of 0.5 less is added to its image: towards faithful because what is
added looks sharper and is on the mean further from hr, towards sharp because that image has more detail than the model
adds. Elsewhere the dial moves where sampling starts: the noisier the start, the more the network invents. At 0.5 a
model samples as it was released; the ends are a start of a fifth and of five times the share of the schedule, with
steps in proportion to its square root, and weaker or stronger guidance. What would lie beyond the whole schedule
becomes more steps where there are few: a single step from pure noise is the mean of all pictures that fit, more steps
are one of them.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import RejectedSample, UserError
from spasemsr.spec import Fraction, Positive, Spec

DIAL_RANGE = 5.0
LEAST_SHARE = 0.25  # of what a model adds to the restorer's image, at both ends of the dial
FEW_STEPS = 10  # from here on more steps change little
MAX_TEXT = 512  # characters of one tag or caption
MAX_TAGS = 64
MAP_SEEDS = 4  # results whose deviation the map shows
MAX_SCALE = 4  # what models make; less is reduced from it

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Fit = Literal["inside", "crop", "stretch"]
Corners = tuple[float, float, float, float]  # x0 y0 x1 y1, shares of width and height in [0, 1]
WHOLE: Corners = (0.0, 0.0, 1.0, 1.0)  # the box of what may be anywhere
ELSEWHERE = "*"
OFF: Literal["off"] = "off"  # in the place of a dial: the box is enlarged by bicubic and nothing else
Strength = Fraction | Literal["off"]


def _whole(value: Any) -> Any:
    """4.0 is 4: a setting that is equal has equal JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Settings(Spec):
    """Everything that can change a pixel of the result, beside the model; `tags` and `caption` None are found.

    `width` and `height` in pixels take the place of `scale`: one of them keeps the shape; of both, `fit` says how. A
    `scale` beside a side, or a `fit` without both, would be left aside and is a UserError. A tag may say where it is,
    see `located`. `dials` are tags with a strength of their own, or off, in the place of `dial`; one that says where it
    is means that place alone. What is written has the faithful strength unless `text` is free.
    """

    scale: Annotated[int | float, BeforeValidator(_whole), Field(ge=1, le=MAX_SCALE)] = MAX_SCALE
    width: Positive | None = None
    height: Positive | None = None
    fit: Fit = "inside"
    dial: Fraction = 0.5
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Positive | None = None
    tags: Annotated[tuple[Text, ...], Field(max_length=MAX_TAGS)] | None = None
    caption: Text | None = None
    dials: Annotated[tuple[tuple[Text, Strength], ...], Field(max_length=MAX_TAGS)] = ()
    text: Literal["safe", "free"] = "safe"

    @field_validator("tags", "dials")
    @classmethod
    def _in_the_picture(cls, given: Any) -> Any:
        for each in given or ():
            located(each if isinstance(each, str) else each[0])
        return given

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        given = self.model_fields_set
        if "scale" in given and (self.width or self.height):
            raise UserError("A scale and a width or height are two sizes for one result.", "Leave one of them out.")
        if "fit" in given and not (self.width and self.height):
            told = f"Fit {self.fit!r} says how a picture goes into a width and a height, and one is missing."
            raise UserError(told, "Give both, or leave fit out.")
        return self

    def plain(self) -> dict[str, Any]:
        """As JSON-ready values, sizes, dials and free text only where asked for: older sidecars know none."""
        value = super().plain()
        unasked = [] if self.width or self.height else ["width", "height", "fit"]
        unasked += [] if self.dials else ["dials"]
        unasked += [] if self.text == "free" else ["text"]
        return {name: held for name, held in value.items() if name not in unasked}

    @property
    def ending(self) -> str:
        """What a result's name has beyond its input's: `_x4`, `_x2.5`, `_1920w`, `_1080h`, `_1920x1080`."""
        if self.width and self.height:
            return f"_{self.width}x{self.height}"
        return f"_{self.width}w" if self.width else f"_{self.height}h" if self.height else f"_x{self.scale:g}"

    def sizes(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """What a picture of width x height is resized to, and the middle of it that is kept: both (width, height).

        Raises RejectedSample `size_out_of_reach` for less than the picture's size and more than the model makes.
        """
        if not (self.width or self.height):
            resized = kept = round(width * self.scale), round(height * self.scale)
        elif self.width and self.height and self.fit == "stretch":
            resized = kept = self.width, self.height
        else:
            factors = [wanted / side for wanted, side in ((self.width, width), (self.height, height)) if wanted]
            factor = max(factors) if self.fit == "crop" else min(factors)
            resized = kept = max(round(width * factor), 1), max(round(height * factor), 1)
            if self.width and self.height and self.fit == "crop":
                kept = min(self.width, resized[0]), min(self.height, resized[1])
        least, most = min(resized[0] / width, resized[1] / height), max(resized[0] / width, resized[1] / height)
        if least < 1 or most > MAX_SCALE:
            detail = f"{width}x{height} would become {resized[0]}x{resized[1]}; it can grow 1 to {MAX_SCALE} times"
            raise RejectedSample("size_out_of_reach", detail)
        return resized, kept


def sampling_for(
    base: SampleSpec, settings: Settings, num_train_timesteps: int, restorer_dials: bool = False
) -> SampleSpec:
    """The sampling of these settings: `base` with start, guidance and steps moved by dial and `steps`.

    With `restorer_dials` the dial is the restorer's, see above.
    """
    if restorer_dials:
        ends = min(LEAST_SHARE, base.share)
        share = base.share + (ends - base.share) * abs(2 * settings.dial - 1)
        return base.model_copy(update={"share": share, "steps": settings.steps or base.steps})
    offset = 2 * settings.dial - 1  # -1 faithful .. 1 sharp
    wanted = base.start * DIAL_RANGE**offset
    start = min(wanted, 1.0) if base.lre else base.start
    guidance = base.guidance
    if base.guidance > 1.0:  # without guidance there is nothing to strengthen
        guidance = 1.0 + (base.guidance - 1.0) * (1.0 + offset * (1.0 if offset < 0 else 0.5))
    few = base.lre and base.steps < FEW_STEPS
    steps = settings.steps or math.ceil(base.steps * math.sqrt((wanted if few else start) / base.start) - 1e-9)
    steps = min(steps, max(round(start * num_train_timesteps), 1))
    return base.model_copy(update={"start": start, "guidance": guidance, "steps": steps})


def clean_text(text: str) -> str:
    """One line without control characters, no longer than a model is shown."""
    words = "".join(character if character.isprintable() else " " for character in text).split()
    return " ".join(words)[:MAX_TEXT].rstrip()


def located(tag: str) -> tuple[str, Corners | None]:
    """ "dog@0.1,0.2,0.6,0.9" -> ("dog", (0.1, 0.2, 0.6, 0.9)); a tag without a place has None.

    Raises ValueError for what is no place, has no area, or lies outside the picture.
    """
    name, at, place = tag.partition("@")
    if not at:
        return tag, None
    try:
        x0, y0, x1, y1 = (float(side) for side in place.split(","))
    except ValueError:
        raise ValueError(f"{tag!r} does not say where {name!r} is") from None
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(f"the box of {tag!r} is not within the picture")
    return name, (x0, y0, x1, y1)


def parse_tags(text: str) -> tuple[str, ...]:
    """ "dog, red car@0,0.5,0.4,1" -> ("dog", "red car@0,0.5,0.4,1"), in order, without repetitions and blanks.

    Raises UserError for a place that is none, or not in the picture.
    """
    tags = []
    for tag in _parts(text):
        try:
            if not located(tag)[0] and tag:
                raise ValueError(f"{tag!r} does not say what is there")
        except ValueError as error:
            remedy = 'Say it like "dog@0.1,0.2,0.6,0.9": left, top, right and bottom, in shares of the picture.'
            raise UserError(f"--tags: {error}.", remedy) from None
        tags.append(tag)
    return tuple(dict.fromkeys(tag for tag in tags if tag))[:MAX_TAGS]


def parse_dial(text: str) -> tuple[float, tuple[tuple[str, Strength], ...]]:
    """ "person=0, sky@0,0,1,0.3=off, *=0.4" -> (0.4, (("person", 0.0), ("sky@0,0,1,0.3", "off"))): elsewhere, by tag.

    A number alone holds everywhere. Raises UserError for what is no number from 0 to 1, a name given twice, and a place
    that is none or not in the picture.
    """
    remedy = 'Say it like 0.5, or "person=0, grass=0.9, sky@0,0,1,0.3=off, *=0.5"; * is everything else.'
    dials: dict[str, Strength] = {}
    for part in _parts(text):
        name, _, value = (ELSEWHERE, "", part) if "=" not in part else part.rpartition("=")
        name, dial = name.strip(), _strength(value)
        if not name or dial is None or (name == ELSEWHERE and dial == OFF):
            raise UserError(f"--dial: {part!r} is no number from 0 to 1.", remedy)
        try:
            located(name)
        except ValueError as error:
            raise UserError(f"--dial: {error}.", remedy) from None
        if name in dials:
            raise UserError(f"--dial: {name!r} is given twice.", remedy)
        dials[name] = dial
    everywhere = dials.pop(ELSEWHERE, 0.5)
    assert everywhere != OFF
    return everywhere, tuple(dials.items())


def _parts(text: str) -> Iterator[str]:
    """The parts of a list, cleaned; the three commas of a place are its own."""
    parts = [clean_text(part) for part in text.split(",")]
    while parts:
        place = 4 if "@" in parts[0] else 1
        yield ",".join(parts[:place])
        parts = parts[place:]


def _strength(text: str) -> Strength | None:
    if text.strip() == OFF:
        return OFF
    try:
        dial = float(text)
    except ValueError:
        return None
    return dial if 0 <= dial <= 1 else None
