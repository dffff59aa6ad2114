"""The colour fix of `diffusion/colorfix.py` on images too large for it: the same result, computed in strips.

Wavelet needs 31 pixels around a strip, which are kept as they were before any strip was fixed. AdaIN needs the mean
and deviation of whole images, which are summed up first. lr (u, v, 3) in 8 or 16 bits, the canvas (H, W, 3) in 16
bits, changed in place.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spasemsr.diffusion.colorfix import LEVELS, MIN_STD, wavelet
from spasemsr.diffusion.tiling import TileMap
from spasemsr.images.picture import Pixels
from spasemsr.methods.protocol import Boxes
from spasemsr.pixels import bicubic_upsample

_REACH = 2**LEVELS  # rows around a strip that its colours depend on: 1 + 2 + 4 + 8 + 16, rounded up
_STRIP_PIXELS = 1 << 20
_AT_ONCE = 4  # strips in work, however many cores there are: each takes some 100 MB
_BYTES_IN_WORK, _BYTES_KEPT = 128, 6  # per pixel of a strip: float32 of RGB several times; 16 bits of RGB
_CUBIC = 4  # lr rows around a strip that bicubic upsampling looks at, with room


def fix_canvas(kind: str, canvas: npt.NDArray[np.uint16], lr: Pixels, scale: int, run_strips: TileMap = map) -> None:
    """Apply the fix `adain`, `wavelet` or `none` to a whole restored image.

    `run_strips` works through strips of rows: `map`, or that of a thread pool.
    """
    match kind:
        case "adain":
            _adain(canvas, lr, scale)
        case "wavelet":
            _wavelet(canvas, lr, scale, run_strips)
        case "none":
            pass
        case _:
            raise ValueError(f"no colour fix {kind!r}")


def bytes_beside(kind: str, height: int, width: int, scale: int) -> int:
    """What the fix takes beside lr of (u, v) pixels and its canvas: strips in work, and rows kept for all of them."""
    if kind == "none":
        return 0
    height, width = height * scale, width * scale
    rows = _rows(width, scale)
    strips, around = -(-height // rows), 2 * _REACH if kind == "wavelet" else 0
    in_work = min(strips, _AT_ONCE if kind == "wavelet" else 1) * min(rows + around, height)
    return width * (in_work * _BYTES_IN_WORK + strips * around * _BYTES_KEPT)


def grown(kind: str, boxes: Boxes | None) -> Boxes | None:
    """Boxes with what the fix reads around them to colour what lies in them; None is the whole image."""
    if boxes is None or kind == "adain":
        return None
    reach = _REACH if kind == "wavelet" else 0
    return [(left - reach, top - reach, right + reach, bottom + reach) for left, top, right, bottom in boxes]


def lr_float(lr: Pixels) -> npt.NDArray[np.float32]:
    """(u, v, 1 or 3) -> (u, v, 3) float32 in [0, 1]."""
    values = lr.astype(np.float32) / np.float32(np.iinfo(lr.dtype).max)
    return np.broadcast_to(values, (*values.shape[:2], 3))


def tensor_of(pixels_HW3: npt.NDArray[np.float32]) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels_HW3.transpose(2, 0, 1)))[None]


def _wavelet(canvas: npt.NDArray[np.uint16], lr: Pixels, scale: int, run_strips: TileMap) -> None:
    strips = list(_strips(canvas, scale))
    around = [
        (canvas[max(start - _REACH, 0) : start].copy(), canvas[end : end + _REACH].copy()) for start, end in strips
    ]

    def fix(index: int) -> None:
        (start, end), (above, below) = strips[index], around[index]
        top, bottom = start - len(above), end + len(below)
        restored = tensor_of(np.concatenate([above, canvas[start:end], below]).astype(np.float32))
        fixed = wavelet(restored.div_(65535), _lr_up(lr, top, bottom, scale))
        canvas[start:end] = _sixteen(fixed[..., start - top : end - top, :])

    for first in range(0, len(strips), _AT_ONCE):
        for _ in run_strips(fix, range(first, min(first + _AT_ONCE, len(strips)))):
            pass


def _adain(canvas: npt.NDArray[np.uint16], lr: Pixels, scale: int) -> None:
    sums = np.zeros((4, 3))
    for start, end in _strips(canvas, scale):
        for row, values in ((0, canvas[start:end] / 65535.0), (2, _lr_up(lr, start, end, scale)[0].double().numpy())):
            values = values.reshape(-1, 3) if row == 0 else values.reshape(3, -1).T
            sums[row] += values.sum(axis=0)
            sums[row + 1] += (values**2).sum(axis=0)
    count = canvas.shape[0] * canvas.shape[1]
    mean, mean_lr = sums[0] / count, sums[2] / count
    std, std_lr = (
        np.maximum(np.sqrt(np.maximum(squares - count * m**2, 0) / max(count - 1, 1)), MIN_STD)
        for squares, m in ((sums[1], mean), (sums[3], mean_lr))
    )
    gain = (std_lr / std).astype(np.float32)
    shift = (65535 * (mean_lr - mean * std_lr / std)).astype(np.float32)
    for start, end in _strips(canvas, scale):
        canvas[start:end] = np.clip(np.rint(canvas[start:end] * gain + shift), 0, 65535)


def _strips(canvas: npt.NDArray[np.uint16], scale: int) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of each strip; whole lr rows, and more of them than the fix reaches."""
    rows = _rows(canvas.shape[1], scale)
    for start in range(0, canvas.shape[0], rows):
        yield start, min(start + rows, canvas.shape[0])


def _rows(width: int, scale: int) -> int:
    return max(_STRIP_PIXELS // width, _REACH) // scale * scale


def _lr_up(lr: Pixels, top: int, bottom: int, scale: int) -> Tensor:
    """Rows top..bottom of the upsampled lr, (1, 3, bottom - top, W), as if all of it had been upsampled."""
    first = max(top // scale - _CUBIC, 0)
    last = min(-(-bottom // scale) + _CUBIC, lr.shape[0])
    up = bicubic_upsample(tensor_of(lr_float(lr[first:last])), scale)
    return up[..., top - first * scale : bottom - first * scale, :]


def _sixteen(image_13HW: Tensor) -> npt.NDArray[np.uint16]:
    levels = image_13HW[0].clamp(0, 1).mul_(65535).round_().permute(1, 2, 0)
    return levels.contiguous().numpy().astype(np.uint16)
