"""The discriminator that the sharp weights of `restore: {kind: aware}` learn against (restorers.py).

A small U-Net with spectral normalization, as Real-ESRGAN's (Wang et al. 2021), which judges every place. It is shown
bicubic beside the image: not only whether this looks like a photograph, but like one of this lr.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

WIDTH = 64  # channels of the first layer, at half size


class Discriminator(nn.Module):
    """(image, bicubic) -> a logit for each pixel at half size: higher where it looks like a photograph."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()

        def layer(i: int, o: int, side: int, stride: int) -> nn.Module:
            return nn.Sequential(spectral_norm(nn.Conv2d(i, o, side, stride, side // 2)), nn.LeakyReLU(0.2))

        self.first = layer(6 * 4, width, 3, 1)
        self.down = nn.ModuleList([layer(width, 2 * width, 4, 2), layer(2 * width, 2 * width, 4, 2)])
        self.up = nn.ModuleList([layer(2 * width, 2 * width, 3, 1), layer(2 * width, width, 3, 1)])
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image_B3HW: Tensor, bicubic_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) both -> (B, 1, H/2, W/2)."""
        both = torch.cat([image_B3HW, bicubic_B3HW], 1) * 2 - 1
        x = self.first(functional.pixel_unshuffle(both, 2))
        kept = []
        for down in self.down:
            kept.append(x)
            x = down(x)
        for up, beside in zip(self.up, reversed(kept), strict=True):
            x = up(functional.interpolate(x, size=beside.shape[-2:], mode="bilinear")) + beside
        return self.out(x)


def relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """-log of how much more real the first looks than the mean of the second, and the other way round."""
    return (functional.softplus(fake.mean() - real).mean() + functional.softplus(fake - real.mean()).mean()) / 2
