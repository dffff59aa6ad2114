"""FID: outputs against hr as two sets, the one metric that is not a mean over images.

As clean-fid computes it: every image resized to 299 px by Pillow's bicubic in float32, features of the third pooling
layer of the Inception network through pyiqa, and the Frechet distance of two Gaussians. Its weights are treated like
those of other learned metrics: never downloaded here, refused by name, file and place where they are absent. N images.
"""

import contextlib
import importlib.metadata
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from spasemsr.errors import UserError
from spasemsr.evaluation.metrics import PROTOCOL
from spasemsr.evaluation.perceptual import Needed, verify
from spasemsr.evaluation.scores import DIGITS
from spasemsr.images.stored import read_scored
from spasemsr.pixels import ImageU8

Float64 = npt.NDArray[np.float64]
FILE = Needed("pyiqa", "pt_inception-2015-12-05-6726825d.pth", "6726825d")
LABEL, COLOUR_SPACE = "FID", "RGB"
RECIPE = "clean-fid: bicubic to 299 px, Inception pool3, outputs against hr as sets; no interval"
FEATURES = 2048
MIN_IMAGES = FEATURES + 1  # below, the covariances are singular; the field prints it for the 3,000-patch sets only
_SIDE, _BATCH = 299, 8


class Fid:
    """FID of two lists of files."""

    def __init__(self, images: int) -> None:
        """For sets of so many images. Raises UserError for too few, and where the weights are absent or wrong."""
        if images < MIN_IMAGES:
            raise UserError(
                f"fid compares sets; {images} images are too few for the covariance of {FEATURES} features.",
                f"Score a set of {MIN_IMAGES} or more, such as DIV2K-Val.",
            )
        self.weights = f"{FILE.name} sha256:{verify('fid', FILE)[:16]}"
        self._network: Any = None

    def __call__(self, outputs: Sequence[Path], hr: Sequence[Path]) -> float:
        """The distance."""
        return distance(*(self.features(map(_resized, files)) for files in (outputs, hr)))

    def features(self, images: Iterable[npt.NDArray[np.float32]]) -> Float64:
        """Images of (299, 299, 3) in [0, 255] -> (N, 2048), on a GPU where there is one."""
        import torch

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = self._network or _inception().to(device)
        found: list[Float64] = []
        rest = iter(images)
        while batch := list(islice(rest, _BATCH)):
            tensor = torch.from_numpy((np.stack(batch) - 128) / 128).permute(0, 3, 1, 2).to(device)
            with torch.inference_mode():
                pooled = self._network(tensor, False, False)[0]
            found.append(pooled.flatten(1).double().cpu().numpy())
        return np.concatenate(found)

    def row(self, value: float, method: str, split: str, count: int) -> dict[str, Any]:
        """The score as `intervals.summarize` has them, with its provenance."""
        return {
            "metric": "fid",
            "implementation": "pyiqa",
            "version": importlib.metadata.version("pyiqa"),
            "weights": self.weights,
            "colour_space": COLOUR_SPACE,
            "crop": 0,
            "protocol": PROTOCOL,
            "recipe": RECIPE,
            "higher_is_better": False,
            "split": split,
            "method": method,
            "mean": round(value, DIGITS),
            "low": None,
            "high": None,
            "n": count,
            "photographs": count,
            "undefined": {},
        }


def distance(ours: Float64, theirs: Float64) -> float:
    """Frechet distance of the Gaussians fitted to two (N, D) sets of features.

    |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)); the root's trace is that of (A C2 A)^(1/2) with A A = C1, whose
    eigenvalues are real and not negative, where the product's own square root is neither.
    """
    (mean_1, cov_1), (mean_2, cov_2) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (ours, theirs))
    values, vectors = np.linalg.eigh(cov_1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_2 @ root), 0)).sum()
    offset = mean_1 - mean_2
    return float(offset @ offset + np.trace(cov_1) + np.trace(cov_2) - 2 * shared)


def _inception() -> Any:
    """pyiqa's network; what it prints goes to the log's stream."""
    with contextlib.redirect_stdout(sys.stderr):
        from pyiqa.archs.inception import InceptionV3

        return InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[FEATURES]]).eval()


def _resized(path: Path) -> npt.NDArray[np.float32]:
    return resize(read_scored(path).pixels)


def resize(image: ImageU8) -> npt.NDArray[np.float32]:
    """(H, W, 3) u8 -> (299, 299, 3) float32 in [0, 255], each channel by Pillow's antialiased bicubic."""
    channels = [
        Image.fromarray(image[..., channel].astype(np.float32)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel).clip(0, 255) for channel in channels], axis=2)
