"""FeatureExtractors that know: the label map of the scene a picture shows, in the place of a segmenter."""

from collections.abc import Sequence

import numpy as np

from spasemsr.backends.protocols import Array
from spasemsr.pixels import ImageU8
from spasemsr.scenes.lookup import scene_of
from spasemsr.scenes.scene import BLOCK, TEXTURES, Scene
from spasemsr.scenes.spec import ScenesSpec


class KnownLabels:
    """uint8 (1, H / 8, W / 8): 0 nothing, i = texture i, counted from 1. Regions end on cells, so no cell is mixed."""

    channels = 1

    def __init__(self, scenes: ScenesSpec) -> None:
        self._scenes = scenes

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the map of an image of this size."""
        return self.channels, height // BLOCK, width // BLOCK

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 pictures of scenes -> their maps. Raises UserError for a picture of no scene."""
        return [self.of(scene_of(image, self._scenes)) for image in images]

    def of(self, scene: Scene) -> Array:
        """The map of a scene."""
        return scene.labels()[None, ::BLOCK, ::BLOCK]


class KnownFeatures(KnownLabels):
    """float16 (6, H / 8, W / 8): a channel for every texture, 1 where it is, in the place of a segmenter's features."""

    channels = len(TEXTURES)

    def of(self, scene: Scene) -> Array:
        """The map of a scene."""
        labels = super().of(scene)
        return (labels == np.arange(1, len(TEXTURES) + 1)[:, None, None]).astype(np.float16)
