"""What a person may ask of one picture, and what the dial from faithful to sharp does to the sampling.

The dial moves where sampling starts: the noisier the start, the more the network invents. At 0.5 a model samples as it
was released; the ends are a start of a fifth and of five times the share of the schedule, with steps in proportion to
its square root, and weaker or stronger guidance. What would lie beyond the whole schedule becomes more steps where
there are few: a single step from pure noise is the mean of all pictures that fit, more steps are one of them.
"""

import math
from typing import Annotated, Literal

from pydantic import Field

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.spec import Fraction, Positive, Spec

DIAL_RANGE = 5.0
FEW_STEPS = 10  # from here on more steps change little
MAX_TEXT = 512  # characters of one tag or caption
MAX_TAGS = 64
MAP_SEEDS = 4  # results whose deviation the map shows

Text = Annotated[str, Field(max_length=MAX_TEXT)]


class Settings(Spec):
    """Everything that can change a pixel of the result, beside the model; `tags` and `caption` None are found."""

    scale: Literal[2, 3, 4] = 4
    dial: Fraction = 0.5
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Positive | None = None
    tags: Annotated[tuple[Text, ...], Field(max_length=MAX_TAGS)] | None = None
    caption: Text | None = None


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
