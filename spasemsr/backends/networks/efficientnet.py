"""EfficientNet-Lite0 (Tan and Le 2019, the variant without squeeze-and-excitation): ImageNet's 1,000 classes.

Fully convolutional up to the mean over places, so images of any size go in. Padding is TensorFlow's, where the weights
come from: what a stride cannot share evenly goes to the right and the bottom. B images, K = 1,000 classes, h w places
of the last map, one for every 32 pixels.
"""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from spasemsr.weights.tensors import load_strictly, read_state_dict

# Blocks of (repeats, kernel, stride, expansion, channels).
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
           (1, 3, 1, 6, 320))  # fmt: skip
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class _Convolution(nn.Conv2d):
    """Padded as TensorFlow does for "same"."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Inverted residual: expand, filter each channel, project; added to its input where the sizes agree."""

    def __init__(self, inside: int, kernel: int, stride: int, expansion: int, outside: int) -> None:
        super().__init__()
        width = inside * expansion
        self._expand_conv = _Convolution(inside, width, 1, bias=False) if expansion > 1 else None
        self._bn0 = _norm(width) if expansion > 1 else None
        self._depthwise_conv = _Convolution(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = _norm(width)
        self._project_conv = _Convolution(width, outside, 1, bias=False)
        self._bn2 = _norm(outside)
        self._adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self._adds else y


class EfficientNetLite0(nn.Module):
    """Names of modules are those of the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Convolution(3, _STEM, 3, 2, bias=False)
        self._bn0 = _norm(_STEM)
        blocks, width = [], _STEM
        for repeats, kernel, stride, expansion, channels in _STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(width, kernel, 1 if repeat else stride, expansion, channels))
                width = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Convolution(width, _HEAD, 1, bias=False)
        self._bn1 = _norm(_HEAD)
        self._fc = nn.Linear(_HEAD, _CLASSES)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 255] -> (B, K, h, w): what each place says for each class, bias included.

        The mean over places is the logits (class activation mapping, Zhou et al. 2016).
        """
        x = F.relu6(self._bn0(self._conv_stem((images_B3HW - 127) / 128)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return F.conv2d(x, self._fc.weight[:, :, None, None], self._fc.bias)


def load_efficientnet(path: Path) -> EfficientNetLite0:
    """The network, frozen, from a state dict. Raises UserError naming the first tensor that is not its own."""
    network = EfficientNetLite0()
    load_strictly(network, read_state_dict(path), str(path))
    return network.eval().requires_grad_(False)
