"""The network of `restore: {kind: aware}`: what it adds to bicubic depends on how degraded the whole picture is.

A Compact trunk (Real-ESRGAN's SRVGGNet: 3x3 convolutions and PReLU at lr size, pixel shuffle at the end) with three
additions: the base is the project's bicubic instead of nearest; 13x13 convolutions on a third of the channels widen
its view (the partial large kernels of PLKSR: Lee et al. 2024); and the whole picture's degradation, three measures of
`quality.py` beside averages of learned filters, scales and shifts the channels at five depths (FiLM: Perez et al.
2018).
Shapes: B batch, u v pixels of lr, F features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from spasemsr.pixels import bicubic_upsample

SCALE = 4
MEASURES = 3  # noise, sharpness, blocking
PARTIAL, WIDE = 16, 13  # channels and side of the large kernels
EVERY = 4  # convolutions from one modulation to the next
AREA, BRIGHTENED = 33, 0.1
NEAR, SLACK = 5, 1 / 255  # pixels of lr, grey levels
PATTERN = 6 / 255  # grey levels
LUMA = (0.299, 0.587, 0.114)
REACH = 64  # lr pixels around a tile that its result depends on: 18 and 24 of the convolutions, then half of AREA
_FILTERS, _HIDDEN = 24, 48
_LEAST = 32  # sides below this are padded before the picture is judged


class Modulation(nn.Module):
    """The picture's degradation -> a scale and a shift for each channel at each depth, none at first."""

    def __init__(self, features: int, depths: int) -> None:
        super().__init__()
        self.filters = nn.Sequential(
            nn.Conv2d(3, _FILTERS, 5, 2), nn.PReLU(_FILTERS), nn.Conv2d(_FILTERS, _FILTERS, 3, 2), nn.PReLU(_FILTERS)
        )
        self.mix = nn.Sequential(nn.Linear(MEASURES + 2 * _FILTERS, _HIDDEN), nn.PReLU(_HIDDEN))
        self.out = nn.Linear(_HIDDEN, depths * 2 * features)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self._shape = depths, 2, features, 1, 1

    def forward(self, picture_B3uv: Tensor, measures_B3: Tensor) -> Tensor:
        """(depths, 2, B, F, 1, 1): scale minus 1, and shift."""
        lacking = [max(_LEAST - side, 0) for side in picture_B3uv.shape[-2:]]
        found = self.filters(functional.pad(picture_B3uv, (0, lacking[1], 0, lacking[0]), mode="replicate"))
        averages = torch.cat([found.mean((2, 3)), found.std((2, 3))], 1)
        changes = self.out(self.mix(torch.cat([measures_B3, averages], 1)))
        return changes.view(-1, *self._shape).permute(1, 2, 0, 3, 4, 5)


class AwareNetwork(nn.Module):
    """lr in [0, 1] -> bicubic(lr) + residual."""

    def __init__(self, features: int = 48, convolutions: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, 3 * SCALE**2, 3, padding=1))
        self.body = nn.Sequential(*layers)
        self.skip = nn.Conv2d(3, 3 * SCALE**2, 5, padding=2)
        self.wide = nn.ModuleList(
            nn.Conv2d(PARTIAL, PARTIAL, WIDE, padding=WIDE // 2) for _ in range(convolutions // EVERY)
        )
        for wide in self.wide:
            nn.init.zeros_(wide.weight)
            nn.init.zeros_(wide.bias)
        self.modulation = Modulation(features, convolutions // EVERY + 1)

    def forward(self, lr_B3uv: Tensor, changes: Tensor) -> Tensor:
        """(B, 3, u, v) -> (B, 3, 4u, 4v), not clamped; `changes`: `modulation` of the picture that lr is a part of."""
        return bicubic_upsample(lr_B3uv, SCALE) + self.residual(lr_B3uv, changes)

    def residual(self, lr_B3uv: Tensor, changes: Tensor) -> Tensor:
        """What is added to bicubic, (B, 3, 4u, 4v)."""
        x = lr_B3uv
        for depth in range(len(self.body) // 2):
            x = self.body[2 * depth + 1](self.body[2 * depth](x))
            if depth % EVERY == 0:
                scale, shift = changes[depth // EVERY]
                x = x * (1 + scale) + shift
                if depth:
                    some, rest = x[:, :PARTIAL], x[:, PARTIAL:]
                    x = torch.cat([some + self.wide[depth // EVERY - 1](some), rest], 1)
        return functional.pixel_shuffle(self.body[-1](x) + self.skip(lr_B3uv), SCALE)


def anchored(residual_B3HW: Tensor, lr_B3uv: Tensor) -> Tensor:
    """The residual without what it would change of colours and brightness over areas of `AREA` pixels of lr.

    lr is right about these, and a network is not on colours that it never saw. One change is kept: a blur of light, not
    of grey levels, makes contrasts brighter, so brightness may move by a tenth of the local standard deviation of Y.
    What is added is at most the range of lr's values around: where nothing varies there is nothing to restore.
    """
    highest, lowest = (functional.max_pool2d(sign * lr_B3uv, NEAR, 1, NEAR // 2) for sign in (1, -1))
    most = functional.interpolate(highest + lowest + SLACK, scale_factor=SCALE, mode="nearest")
    residual_B3HW = residual_B3HW.clamp(-most, most)
    luma = lr_B3uv.new_tensor(LUMA).view(1, 3, 1, 1)
    low = _mean(functional.avg_pool2d(residual_B3HW, SCALE))
    y = (lr_B3uv * luma).sum(1, keepdim=True)
    bound = BRIGHTENED * (_mean(y**2) - _mean(y) ** 2).clamp_min(0).sqrt()
    kept = torch.minimum(torch.maximum((low * luma).sum(1, keepdim=True), -bound), bound)
    return residual_B3HW - functional.interpolate(low - kept, scale_factor=SCALE, mode="bilinear")


def grid_of(residual_B3HW: Tensor) -> Tensor:
    """What a pixel shuffle repeats every `SCALE` pixels, (B, 1, H, W), to be taken away.

    It is what each of the 16 outputs adds to the brightness of areas of `AREA` pixels of lr, less the mean of all
    outputs. A value counts for `PATTERN` at most, since edges lie somewhere on the grid too.
    """
    brightness = (residual_B3HW * residual_B3HW.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    outputs = _mean(functional.pixel_unshuffle(brightness, SCALE).clamp(-PATTERN, PATTERN))
    return functional.pixel_shuffle(outputs - outputs.mean(1, keepdim=True), SCALE)


def _mean(values: Tensor) -> Tensor:
    for side, pad in (((AREA, 1), (AREA // 2, 0)), ((1, AREA), (0, AREA // 2))):  # axis by axis, quickly
        values = functional.avg_pool2d(values, side, 1, pad, count_include_pad=False)
    return values
