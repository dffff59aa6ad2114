"""An upscaler that repeats pixels instead of restoring, without torch: for tests of files, names and messages."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.errors import RejectedSample
from spasemsr.images.picture import Picture
from spasemsr.upscaling.settings import Settings

MOST_PIXELS = 1_000_000
BUDGET = SimpleNamespace(window_height=64, window_width=64)
SAID = SimpleNamespace(plain=lambda: {"objects": [], "caption": "sharp"})


class InstantUpscaler:
    """What the `upscale` command asks of an upscaler."""

    weights_sha256 = "0" * 64
    config = SimpleNamespace(method="spasemsr", inference=SimpleNamespace(profile="embedded"))

    def plan(self, size: tuple[int, int], *_: Any) -> Any:
        if size[0] * size[1] > MOST_PIXELS:
            raise RejectedSample("needs_memory", "more than a test should take")
        return BUDGET

    def released_config(self) -> Any:
        return SimpleNamespace(plain=dict)

    def restore(self, picture: Picture, settings: Settings, *, with_map: bool = False, **_: Any) -> Any:
        size, kept = settings.sizes(*picture.size)

        def larger(planes: np.ndarray) -> np.ndarray:
            return cv2.resize(planes, size, interpolation=cv2.INTER_NEAREST)[: kept[1], : kept[0]]

        colour = larger(picture.colour).reshape(kept[1], kept[0], -1)
        colour = colour + colour.dtype.type(settings.seed % 2)  # so that seeds can be told apart
        alpha = None if picture.alpha is None else larger(picture.alpha)
        deviation = np.full((kept[1], kept[0]), settings.seed % 256, np.uint8) if with_map else None
        result = replace(picture, colour=colour, alpha=alpha)
        return SimpleNamespace(
            picture=result,
            description=SAID,
            sampling=SampleSpec(),
            budget=BUDGET,
            deviation=deviation,
            regions=(),
            text=(),
        )
