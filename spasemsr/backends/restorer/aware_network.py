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

    lr is right about these, and a network is not on colours that it never saw. What is added is at most the range of
    lr's values around: where nothing varies there is nothing to restore.
    """
    residual_B3HW = limited(residual_B3HW, limits_of(lr_B3uv))
    return residual_B3HW - enlarged(drift_of(functional.avg_pool2d(residual_B3HW, SCALE), lr_B3uv))


def limits_of(lr_B3uv: Tensor) -> Tensor:
    """The most that may be added to the pixels of lr, (B, 3, u, v)."""
    highest, lowest = (_highest(sign * lr_B3uv) for sign in (1, -1))
    return highest + lowest + SLACK


def limited(residual_B3HW: Tensor, limits_B3uv: Tensor) -> Tensor:
    """The residual within limits for each pixel of lr."""
    most = functional.interpolate(limits_B3uv, scale_factor=SCALE, mode="nearest")
    return residual_B3HW.clamp(-most, most)


def drift_of(low_B3uv: Tensor, lr_B3uv: Tensor) -> Tensor:
    """What a residual, here its mean in each pixel of lr, changes of areas of `AREA` pixels and may not, (B, 3, u, v).

    One change it may: a blur of light, not of grey levels, makes contrasts brighter, so brightness may move by a tenth
    of the local standard deviation of Y.
    """
    low, y = _mean(low_B3uv), _luma(lr_B3uv)
    bound = BRIGHTENED * (_mean(y**2) - _mean(y) ** 2).clamp_min(0).sqrt()
    return low - torch.minimum(torch.maximum(_luma(low), -bound), bound)


def enlarged(drift_B3uv: Tensor) -> Tensor:
    """(B, 3, u, v) -> (B, 3, 4u, 4v), smooth."""
    return functional.interpolate(drift_B3uv, scale_factor=SCALE, mode="bilinear")


def grid_of(residual_B3HW: Tensor) -> Tensor:
    """What a pixel shuffle repeats every `SCALE` pixels, (B, 1, H, W), to be taken away.

    It is what each of the 16 outputs adds to the brightness of areas of `AREA` pixels of lr, less the mean of all
    outputs. A value counts for `PATTERN` at most, since edges lie somewhere on the grid too.
    """
    return functional.pixel_shuffle(pattern_of(outputs_of(residual_B3HW)), SCALE)


def outputs_of(residual_B3HW: Tensor) -> Tensor:
    """What each output adds to the brightness of each pixel of lr, as far as it counts, (B, 16, u, v)."""
    return functional.pixel_unshuffle(_luma(residual_B3HW), SCALE).clamp(-PATTERN, PATTERN)


def pattern_of(outputs_BSuv: Tensor) -> Tensor:
    """The mean of each output over areas, less that of all outputs, (B, 16, u, v)."""
    means = _mean(outputs_BSuv)
    return means - means.mean(1, keepdim=True)


def _luma(rgb_B3uv: Tensor) -> Tensor:
    """Y, (B, 1, u, v)."""
    return sum(share * rgb_B3uv[:, index : index + 1] for index, share in enumerate(LUMA))


def _highest(values: Tensor) -> Tensor:
    """The largest value among `NEAR` x `NEAR`."""
    for side, pad in (((NEAR, 1), (NEAR // 2, 0)), ((1, NEAR), (0, NEAR // 2))):  # axis by axis, quickly
        values = functional.max_pool2d(values, side, 1, pad)
    return values


def _mean(values: Tensor) -> Tensor:
    """The mean over `AREA` x `AREA`, or what of them lies inside; AREA is a power of two and one.

    Along each axis sums of 2, 4, 8 ... values are made of two sums of half as many: 6 passes instead of `AREA`.
    """
    for axis in (-2, -1):
        size, reach = values.shape[axis], AREA // 2
        padded = functional.pad(values, [0, 0, reach, reach] if axis == -2 else [reach, reach])
        sums, width = padded, 1
        while width < AREA - 1:
            length = sums.shape[axis] - width
            sums, width = sums.narrow(axis, 0, length) + sums.narrow(axis, width, length), 2 * width
        sums = sums.narrow(axis, 0, size) + padded.narrow(axis, AREA - 1, size)
        inside = torch.arange(1, size + 1, device=values.device).clamp(max=reach + 1)
        count = inside + inside.flip(0) - 1
        values = sums / (count[:, None] if axis == -2 else count)
    return values
