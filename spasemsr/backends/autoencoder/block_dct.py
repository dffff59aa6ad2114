"""Autoencoder: images <-> latents of 1/8 of the resolution.

Embedded: the block DCT of DCTdiff. Every 8x8 block of Y, Cb and Cr becomes its `keep` x `keep` lowest cosine terms, so
a cell has 3 keep^2 channels. Nothing is learned; encoding is linear and decoding its transpose, both differentiable.
B batch, C channels, H W pixels, h w cells.
"""

import math

import torch
from torch import Tensor, nn

from spasemsr.backends.autoencoder.spec import BlockDCTSpec

BLOCK = 8
_RGB_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
# Standard deviations of the terms on photographs: DC, and AC at distance r from it as amplitude * r^-exponent. Fitted
# to 16 photographs inside scikit-image, scikit-learn and matplotlib; test_autoencoder.py measures them again.
_DC_DEVIATION = (1.83, 0.50, 0.67)  # Y, Cb, Cr; a term of an orthonormal 8x8 DCT of values in [0, 1]
_AC_AMPLITUDE = (0.34, 0.058, 0.058)
_AC_EXPONENT = (1.25, 1.35, 1.35)
_DC_MEAN = -0.75  # of Y, after 0.5 is taken off every pixel: the photographs' mean luma is 0.41
# 1 gives every channel unit variance, 0 keeps the terms' own proportions. A small conditional UNet with plain MSE on
# velocity (500 steps of 16 patches, LR start at 0.3, 10 steps) restored 63 patches at 18.9, 21.4, 22.6, 22.2, 20.6 dB
# for 1, 0.75, 0.5, 0.25, 0: full whitening spends the loss on terms that nobody can predict and leaves DC uncertain by
# 30 grey levels, none drowns the fine terms in the sampler's last noise.
_WHITENING = 0.5
_LOG_VARIANCE = 2 * math.log(1e-3)  # the encoder is exact; a thousandth of the unit scale keeps the posterior proper


class BlockDCT(nn.Module):
    """YCbCr block DCT with fixed per-channel scales; `scaling_factor` is 1 because the scales are the backend's own."""

    def __init__(self, spec: BlockDCTSpec) -> None:
        super().__init__()
        keep = spec.keep
        self.channels, self.downscale, self.scaling_factor = 3 * keep**2, BLOCK, 1.0
        frequency, place = torch.arange(keep, dtype=torch.float64)[:, None], torch.arange(BLOCK, dtype=torch.float64)
        basis = torch.cos(math.pi / BLOCK * (place + 0.5) * frequency) * math.sqrt(2 / BLOCK)
        basis[0] /= math.sqrt(2)
        colour = torch.tensor(_RGB_TO_YCBCR, dtype=torch.float64)
        mean = torch.zeros(3, keep, keep)
        mean[0, 0, 0] = _DC_MEAN
        fine = torch.zeros(3, keep, keep)
        fine[0] = 1.0
        fine[0, :2, :2] = 0.0  # mean and slopes, which go on in the next cell
        self.register_buffer("detail", fine.reshape(1, -1, 1, 1), persistent=False)  # 1: what of Y is finer than a cell
        self.register_buffer("_basis", basis.float(), persistent=False)  # (keep, 8)
        self.register_buffer("_to_ycbcr", colour.float(), persistent=False)
        self.register_buffer("_to_rgb", torch.linalg.inv(colour).float(), persistent=False)
        self.register_buffer("_mean", mean[..., None, None], persistent=False)
        self.register_buffer("_scale", channel_scales(keep)[..., None, None], persistent=False)

    def moments(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], H and W multiples of 8 -> (B, 2C, H/8, W/8): mean, and a constant log-variance."""
        height, width = images_B3HW.shape[-2:]
        if height % BLOCK or width % BLOCK:
            raise ValueError(f"block_dct needs sides in multiples of {BLOCK}, not {width}x{height}")
        # one image at a time: a matrix product's last bits may depend on how many rows it has
        mean = torch.stack([self._encode(image) for image in images_B3HW])
        return torch.cat([mean, torch.full_like(mean, _LOG_VARIANCE)], dim=1)

    def decode(self, latents_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, 8h, 8w), clamped to [0, 1]."""
        return torch.stack([self._decode(latents) for latents in latents_BChw]).clamp(0.0, 1.0)

    def _encode(self, image_3HW: Tensor) -> Tensor:
        height, width = image_3HW.shape[-2:]
        planes = torch.einsum("dc,chw->dhw", self._to_ycbcr, image_3HW - 0.5)
        blocks = planes.reshape(3, height // BLOCK, BLOCK, width // BLOCK, BLOCK)
        terms = torch.einsum("ui,chiwj,vj->cuvhw", self._basis, blocks, self._basis)
        return ((terms - self._mean) / self._scale).flatten(0, 2)

    def _decode(self, latents_Chw: Tensor) -> Tensor:
        keep = self._basis.shape[0]
        cells = latents_Chw.shape[-2:]
        terms = latents_Chw.reshape(3, keep, keep, *cells) * self._scale + self._mean
        blocks = torch.einsum("ui,cuvhw,vj->chiwj", self._basis, terms, self._basis)
        planes = blocks.reshape(3, cells[0] * BLOCK, cells[1] * BLOCK)
        return torch.einsum("dc,chw->dhw", self._to_rgb, planes) + 0.5


def term_deviations(keep: int) -> Tensor:
    """(3, keep, keep): the standard deviation of every term of Y, Cb and Cr on photographs."""
    down, across = torch.meshgrid(torch.arange(float(keep)), torch.arange(float(keep)), indexing="ij")
    distance = torch.hypot(down, across).clamp(min=1.0)
    deviations = torch.stack([a * distance**-e for a, e in zip(_AC_AMPLITUDE, _AC_EXPONENT, strict=True)])
    deviations[:, 0, 0] = torch.tensor(_DC_DEVIATION)
    return deviations


def channel_scales(keep: int) -> Tensor:
    """(3, keep, keep): what every term is divided by, its deviation to the power `_WHITENING`, at unit mean power."""
    deviations = term_deviations(keep)
    scales = deviations**_WHITENING
    return scales * (deviations / scales).square().mean().sqrt()
