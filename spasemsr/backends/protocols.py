"""Where foreign models begin: eight protocols and their value types, on one screen.

Tensors, NumPy arrays and plain values cross; processor objects and library outputs never do. The first six are used
offline, on batches of images; the last two are modules of the training graph. `build_*` functions in the sibling files
turn a spec into one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from spasemsr.pixels import ImageU8

if TYPE_CHECKING:  # torch takes seconds to import, and most stages need none of it
    from torch import Tensor

MaskU8 = npt.NDArray[np.uint8]  # (H, W): 0 nothing, i = object i in the order of the boxes, counted from 1
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tag:
    """A name for something in the image, with a score in [0, 1]."""

    text: str
    score: float


@dataclass(frozen=True)
class Box:
    """One object: its tag, x0 y0 x1 y1 in [0, 1] of the image's width and height, and a score in [0, 1]."""

    tag: str
    xyxy: tuple[float, float, float, float]
    score: float

    @property
    def area(self) -> float:
        """Share of the image the box covers."""
        x0, y0, x1, y1 = self.xyxy
        return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)


@dataclass(frozen=True)
class TextStates:
    """Text encoder output: states (B, L, D), mask (B, L) with 1 for BOS, content and EOS rows; BOS is row 0."""

    states_BLD: Tensor
    mask_BL: Tensor


class Tagger(Protocol):
    """Images -> tags, best first."""

    def tag(self, images: Sequence[ImageU8]) -> list[list[Tag]]: ...


class Detector(Protocol):
    """Images and their tags -> boxes, in any order, not yet selected."""

    def detect(self, images: Sequence[ImageU8], tags: Sequence[list[Tag]]) -> list[list[Box]]: ...


class Segmenter(Protocol):
    """Images and their selected boxes -> one index mask each."""

    def segment(self, images: Sequence[ImageU8], boxes: Sequence[list[Box]]) -> list[MaskU8]: ...


class Captioner(Protocol):
    """Degraded images -> one line each about their quality, not their content.

    An image with a side longer than `sees` pixels is reduced before it is looked at; None: none is.
    """

    prompt: str
    sees: int | None

    def caption(self, images: Sequence[ImageU8]) -> list[str]: ...


class FeatureExtractor(Protocol):
    """Images -> arrays of the dtype that the class states; `shape_for` gives the shape for an image size."""

    def shape_for(self, height: int, width: int) -> tuple[int, ...]: ...

    def extract(self, images: Sequence[ImageU8]) -> list[Array]: ...


class Restorer(Protocol):
    """Degraded images -> images `scale` times larger, cleaned (the paper's DRM)."""

    def restore(self, images: Sequence[ImageU8], scale: int) -> list[ImageU8]: ...


class Autoencoder(Protocol):
    """Images in [0, 1] <-> latents; `scaling_factor` maps an unscaled latent to the diffusion's unit scale."""

    channels: int
    downscale: int
    scaling_factor: float

    def moments(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 2C, H/f, W/f): mean and log-variance, unscaled."""
        ...

    def decode(self, latents_BChw: Tensor) -> Tensor:
        """Unscaled latents (B, C, h, w) -> (B, 3, H, W) in [0, 1]."""
        ...


class TextEncoder(Protocol):
    """Strings -> token states of width `width` and fixed length `length`."""

    width: int
    length: int

    def encode(self, texts: Sequence[str]) -> TextStates: ...
