"""Which scene a picture shows: what the `known` backends use in the place of recognition.

hr, lr and whatever was made of lr have the same mean colour in every 4x4 cell of hr, up to noise, so a scene is found
by these. Nothing of its textures is looked at.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.errors import UserError
from spasemsr.pixels import ImageU8
from spasemsr.scenes.scene import CELL, Scene, make_scene
from spasemsr.scenes.spec import ScenesSpec

_FARTHEST = 10.0  # grey levels of mean difference: noise and a restorer's blur stay below, another scene does not


def scene_of(picture: ImageU8, spec: ScenesSpec) -> Scene:
    """The scene of hr, lr or a restored image, (H, W, 3). Raises UserError for a picture of no scene."""
    cells = spec.side // CELL
    if picture.shape[0] != picture.shape[1] or picture.shape[0] % cells:
        raise _no_scene(f"a picture of {picture.shape[1]}x{picture.shape[0]} pixels", spec)
    colours = cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA).astype(np.float32)
    distances = np.abs(_colours(spec) - colours).mean(axis=(1, 2, 3))
    nearest = int(distances.argmin())
    if distances[nearest] > _FARTHEST:
        raise _no_scene(f"a picture that differs from every one by {distances[nearest]:.0f} grey levels or more", spec)
    return make_scene(spec, nearest)


def _no_scene(what: str, spec: ScenesSpec) -> UserError:
    return UserError(
        f"A `known` backend knows {spec.count} scenes of {spec.side} pixels a side, and was given {what}.",
        "Use profile probe for its own scenes only; photographs need another profile.",
    )


@lru_cache(maxsize=2)
def _colours(spec: ScenesSpec) -> npt.NDArray[np.float32]:
    """The colours of all scenes, (count, side / 4, side / 4, 3)."""
    return np.stack([make_scene(spec, number).flat()[::CELL, ::CELL] for number in range(spec.count)]).astype(
        np.float32
    )
