"""The sharp end of `restore: {kind: aware}`: `python experiments/sharp_restorer.py PHOTOGRAPHS OUT [--steps N]`.

Goes on from the weights of `aware`, by the same loop and on the same crops, with another loss: what is far from hr to
the eye (ST-LPIPS), what a discriminator can tell from photographs (relativistic: Jolicoeur-Martineau 2019; a U-Net with
spectral normalization, as in Real-ESRGAN, that is shown bicubic beside the image), how much swings from pixel to pixel
(which ST-LPIPS blurs away), held near hr by the mean absolute error. Because it starts there, every mean of both
weights is a network too (network interpolation, ESRGAN 3.4): `restore.sharpness` says which, and the dial moves it.
"""

from pathlib import Path

import crops
import restorer_loop
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from spasemsr.backends.networks.stlpips import load_stlpips
from spasemsr.backends.restorer.aware import SCALE
from spasemsr.backends.restorer.aware_network import AwareNetwork, anchored
from spasemsr.backends.restorer.spec import AWARE
from spasemsr.pixels import bicubic_upsample
from spasemsr.weights.tensors import load_strictly, read_state_dict

RATE, WARMUP, EMA, CLIP = 2e-4, 100, 0.998, 1.0
PIXEL, PERCEPTUAL, ADVERSARIAL, FINEST = 0.5, 3.0, 0.05, 1.0
ALONE = 150  # first steps, in which only the discriminator and the other losses work
WIDTH = 48  # channels of the discriminator's first layer, at half size
PATCH, BATCH = 32, 8  # lr pixels, patches


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


def finest(image_B3HW: Tensor) -> Tensor:
    """How much of each image swings from pixel to pixel, along x and y: mean absolute fourth difference, (2, B)."""
    kernel = torch.tensor([1.0, -4.0, 6.0, -4.0, 1.0]).view(1, 1, 1, 5) / 16
    gray = image_B3HW.mean(1, keepdim=True)
    swings = [functional.conv2d(gray, each) for each in (kernel, kernel.transpose(2, 3))]
    return torch.stack([swing.abs().mean((1, 2, 3)) for swing in swings])


def main() -> None:
    """Train and write."""
    parser = restorer_loop.parser(__doc__, steps=4000, cooldown=1000)
    parser.add_argument("--start", type=Path, default=AWARE, help="weights to go on from, the shipped sharp ones say")
    chosen = parser.parse_args()
    torch.manual_seed(crops.SEED)
    network, judge = AwareNetwork(), Discriminator()
    load_strictly(network, read_state_dict(chosen.start), str(chosen.start))
    networks = nn.ModuleDict({"network": network, "judge": judge})
    optimizers = {name: torch.optim.Adam(each.parameters(), RATE, (0.9, 0.99)) for name, each in networks.items()}
    perceptual = load_stlpips()

    def learn(step: int, batch: crops.Batch) -> list[float]:
        lr, hr = batch.lr_B3hw, batch.hr_B3HW
        bicubic = bicubic_upsample(lr, SCALE)
        changes = network.modulation(batch.whole_B3hw, batch.measures_BM)
        restored = bicubic + anchored(network.residual(lr, changes), lr)
        pixel = (restored - hr).abs().mean()
        distance = perceptual(restored * 2 - 1, [each.detach() for each in perceptual.features(hr * 2 - 1)])
        real = judge(hr, bicubic)
        judged = relativistic(real, judge(restored.detach(), bicubic))
        restorer_loop.descend(judge, optimizers["judge"], judged, float("inf"))
        loss = PIXEL * pixel + PERCEPTUAL * distance + FINEST * (finest(restored) - finest(hr)).abs().mean()
        if step >= ALONE:
            judge.requires_grad_(False)
            loss = loss + ADVERSARIAL * relativistic(judge(restored, bicubic), real.detach())
            judge.requires_grad_(True)
        restorer_loop.descend(network, optimizers["network"], loss, CLIP)
        return [float(each.detach()) for each in (pixel, distance, judged)]

    restorer_loop.train(chosen, networks, optimizers, learn, WARMUP, EMA, PATCH, BATCH)


if __name__ == "__main__":
    main()
