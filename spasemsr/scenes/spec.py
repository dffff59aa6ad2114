"""How many scenes there are and what they hold: section `data.scenes` of `params.yaml`, no torch import."""

from typing import Annotated

from pydantic import Field, model_validator

from spasemsr.spec import NUMBER, Positive, Spec

SLOT = 32  # pixels: every region lies in a slot of its own, so that any number up to the slots' can be placed
MAX_REGIONS = 6  # textures there are: no two regions of a scene share one


class ScenesSpec(Spec):
    """`count` square pictures of `side` pixels, each with `fewest` to `most` textured regions."""

    count: Annotated[int, Field(ge=2, le=100_000), NUMBER]
    side: Positive = 64
    fewest: Annotated[int, Field(ge=1), NUMBER] = 2
    most: Annotated[int, Field(ge=1, le=MAX_REGIONS), NUMBER] = 4

    @model_validator(mode="after")
    def _room(self) -> "ScenesSpec":
        if self.side % SLOT:
            raise ValueError(f"side must be a multiple of {SLOT} pixels, the slot of one region")
        slots = (self.side // SLOT) ** 2
        if not self.fewest <= self.most <= slots:
            raise ValueError(
                f"fewest = {self.fewest} and most = {self.most} regions do not fit: a picture of {self.side} pixels "
                f"holds up to {slots}, one in every {SLOT} pixels a side"
            )
        return self
