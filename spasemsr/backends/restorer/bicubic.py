"""A restorer that restores nothing: the project's bicubic, so that whatever a result shows is the model's own."""

from collections.abc import Sequence

from spasemsr.pixels import ImageU8, bicubic_upsample, to_pixels, to_tensor


class BicubicRestorer:
    """`bicubic_upsample` of each image alone."""

    def restore(self, images: Sequence[ImageU8], scale: int) -> list[ImageU8]:
        """(u, v, 3) u8 images -> (scale u, scale v, 3) u8."""
        return [to_pixels(bicubic_upsample(to_tensor(image), scale))[0] for image in images]
