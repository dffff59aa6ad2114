"""What a person may ask of one picture, and what the dial from faithful to sharp does to the sampling.

The dial moves where sampling starts: the noisier the start, the more the network invents. At 0.5 a model samples as it
was released; the ends are a start of a fifth and of five times the share of the schedule, with steps in proportion to
its square root, and weaker or stronger guidance. What would lie beyond the whole schedule becomes more steps where
there are few: a single step from pure noise is the mean of all pictures that fit, more steps are one of them.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import RejectedSample
from spasemsr.spec import Fraction, Positive, Spec

DIAL_RANGE = 5.0
FEW_STEPS = 10  # from here on more steps change little
MAX_TEXT = 512  # characters of one tag or caption
MAX_TAGS = 64
MAP_SEEDS = 4  # results whose deviation the map shows
MAX_SCALE = 4  # what models make; less is reduced from it

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Fit = Literal["inside", "crop", "stretch"]


def _whole(value: Any) -> Any:
    """4.0 is 4: a setting that is equal has equal JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Settings(Spec):
    """Everything that can change a pixel of the result, beside the model; `tags` and `caption` None are found.

    `width` and `height` in pixels take the place of `scale`: one of them keeps the shape; of both, `fit` says how.
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

    def plain(self) -> dict[str, Any]:
        """As JSON-ready values, sizes only where they are asked for: older sidecars know none."""
        value = super().plain()
        unasked = [] if self.width or self.height else ["width", "height", "fit"]
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


def sampling_for(base: SampleSpec, settings: Settings, num_train_timesteps: int) -> SampleSpec:
    """The sampling of these settings: `base` with start, guidance and steps moved by dial and `steps`."""
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


def parse_tags(text: str) -> tuple[str, ...]:
    """ "dog, red car" -> ("dog", "red car"), in order, without repetitions and blanks."""
    tags = (clean_text(part) for part in text.split(","))
    return tuple(dict.fromkeys(tag for tag in tags if tag))[:MAX_TAGS]
