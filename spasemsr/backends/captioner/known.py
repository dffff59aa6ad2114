"""A captioner that knows: how strong the textures of the scene are that lr shows, which lr itself does not say."""

from collections.abc import Sequence

from spasemsr.pixels import ImageU8
from spasemsr.scenes.lookup import scene_of
from spasemsr.scenes.spec import ScenesSpec


class KnownCaptioner:
    """The caption of a scene."""

    sees: int | None = None
    prompt = "How strong is the detail that this picture of a scene has lost?"

    def __init__(self, scenes: ScenesSpec) -> None:
        self._scenes = scenes

    def caption(self, images: Sequence[ImageU8]) -> list[str]:
        """One line for each (u, v, 3) u8 lr of a scene. Raises UserError for a picture of no scene."""
        return [scene_of(image, self._scenes).caption for image in images]
