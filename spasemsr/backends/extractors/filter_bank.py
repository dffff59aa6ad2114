"""FeatureExtractor: what stands in L_SemDeg (eq. 9) for SAM's image encoder, one cell of 8 px per latent cell.

Embedded: a bank of fixed filters, colour, gradients, oriented Gabor energy and LoG energy at several scales, pooled to
cells and standardised with constants that belong to the backend, not to the data at hand.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from spasemsr.backends.extractors.spec import CELL
from spasemsr.backends.protocols import Array
from spasemsr.pixels import ImageU8

_WAVELENGTHS = (4.0, 8.0, 16.0)  # of the Gabor filters, pixels
_ORIENTATIONS = (0.0, 45.0, 90.0, 135.0)  # degrees
_LIMIT = 6.0  # standard deviations
_TINY = 1e-5  # energy of a difference of about one grey level
# Mean and standard deviation of every channel over the cells of 16 photographs inside scikit-image, scikit-learn and
# matplotlib (512 px centre crops, each weighted alike); test_extractors.py measures them again.
_STATISTICS = (
    *((0.4169, 0.2236), (0.0717, 0.1731), (0.0604, 0.1535)),  # luma, red-green, yellow-blue
    *((-8.5680, 2.2097), (-8.2221, 2.3316), (-7.9379, 2.2904)),  # gradient energy at three scales
    *((0.2858, 0.8521), (-0.2059, 0.6425), (0.1442, 0.7694), (-0.2241, 0.6229)),  # orientations at 4 px
    *((0.2003, 1.0168), (-0.1140, 0.7524), (-0.0051, 0.9244), (-0.0811, 0.7523)),  # orientations at 8 px
    (-9.1680, 1.9080),  # LoG energy at 3 px
    *((0.4169, 0.1951), (0.0717, 0.1668), (0.0604, 0.1455)),  # colours of the surroundings
    (0.1486, 0.2017),  # chroma
    *((0.0, 0.0114), (0.0, 0.0193), (0.0, 0.0254)),  # signed LoG at three scales: dark or bright blob
    (-6.6073, 2.4988),  # contrast against the surroundings
    *((0.2150, 1.1438), (-0.1342, 0.8562), (-0.0091, 1.0071), (-0.0718, 0.8665)),  # orientations at 16 px
    *((-8.2760, 2.2407), (-8.0866, 2.3663), (-7.6639, 2.3663)),  # Gabor energy at 4, 8 and 16 px
    *((-9.4064, 1.8504), (-8.9964, 1.8842)),  # LoG energy at 1.5 and 6 px
)


class FilterBank:
    """The first `channels` of its filters; float16 (C, H / 8, W / 8), zero mean and unit variance on photographs."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the features of an image of this size."""
        return self.channels, height // CELL, width // CELL

    def extract(self, images: Sequence[ImageU8]) -> list[Array]:
        """(H, W, 3) u8 images of at least 8 px -> float16 (C, H // 8, W // 8)."""
        return [self._extract(image) for image in images]

    def _extract(self, image: ImageU8) -> Array:
        raw = responses(whole_cells(image))[: self.channels]
        mean, deviation = np.array(_STATISTICS[: self.channels], np.float32).T[:, :, None, None]
        return np.clip((raw - mean) / deviation, -_LIMIT, _LIMIT).astype(np.float16)


def whole_cells(image: ImageU8) -> ImageU8:
    """(H, W, 3) cut at the bottom and on the right to sides of whole cells. Raises ValueError where there is none."""
    height, width = (side // CELL * CELL for side in image.shape[:2])
    if not height or not width:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} has no cell of {CELL} px")
    return np.ascontiguousarray(image[:height, :width])


_ENERGIES = (3, 4, 5, 14, 22, 27, 28, 29, 30, 31)  # how much texture there is, at each scale, whatever its colour


def texture_energies(image: ImageU8) -> np.ndarray:
    """The log energies among the filters, in standard deviations over photographs: float32 (10, H // 8, W // 8).

    Raises ValueError for an image without a cell of 8 px.
    """
    mean, deviation = np.array(_STATISTICS, np.float32)[list(_ENERGIES)].T[:, :, None, None]
    return (_log_energies(image) - mean) / deviation


def texture_decibels(image: ImageU8) -> np.ndarray:
    """The same energies in decibels of their own size; shape and refusal as above."""
    return np.float32(10 / np.log(10)) * _log_energies(image)


def _log_energies(image: ImageU8) -> np.ndarray:
    return responses(whole_cells(image))[list(_ENERGIES)]


def responses(image: ImageU8) -> np.ndarray:
    """All 32 filters of an image with sides in whole cells, before standardising: float32 (32, H / 8, W / 8)."""
    red, green, blue = cv2.split(image.astype(np.float32) / np.float32(255))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    gabor = [_gabor_energies(luma, wavelength) for wavelength in _WAVELENGTHS]
    planes = [pool(plane) for plane in (luma, red_green, yellow_blue)]
    planes += [_log_energy(_gradient_energy(luma, sigma)) for sigma in (1.0, 2.0, 4.0)]
    planes += [*_relative(gabor[0]), *_relative(gabor[1])]
    planes += [_log_energy(_laplacian(luma, 3.0) ** 2)]
    planes += [pool(blur(plane, 16.0)) for plane in (luma, red_green, yellow_blue)]
    planes += [pool(np.hypot(red_green, yellow_blue))]
    planes += [pool(_laplacian(luma, sigma)) for sigma in (2.0, 4.0, 8.0)]
    planes += [_log_energy((luma - blur(luma, 8.0)) ** 2)]
    planes += _relative(gabor[2])
    planes += [np.log(sum(energies) + np.float32(_TINY)) for energies in gabor]
    planes += [_log_energy(_laplacian(luma, sigma) ** 2) for sigma in (1.5, 6.0)]
    return np.stack(planes)


def pool(plane: np.ndarray) -> np.ndarray:
    """(H, W) -> (H / 8, W / 8): the mean of every cell."""
    return cv2.resize(plane, (plane.shape[1] // CELL, plane.shape[0] // CELL), interpolation=cv2.INTER_AREA)


def _log_energy(energy: np.ndarray) -> np.ndarray:
    return np.log(pool(energy) + np.float32(_TINY))


def blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of (H, W) float32, mirrored at the border; sigma in pixels."""
    return cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


def _gradient_energy(plane: np.ndarray, sigma: float) -> np.ndarray:
    smooth = blur(plane, sigma)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=sigma / 8) for order in ((1, 0), (0, 1)))
    return across**2 + down**2


def _laplacian(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Difference of two Gaussians, which is a Laplacian of a Gaussian in all but name: dark blobs are positive."""
    return blur(plane, 1.6 * sigma) - blur(plane, sigma)


def _gabor_energies(plane: np.ndarray, wavelength: float) -> list[np.ndarray]:
    """Cell means of the squared response of a quadrature pair at each orientation."""
    energies = []
    for pair in _gabor_pairs(wavelength):
        parts = [cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REFLECT_101) ** 2 for kernel in pair]
        energies.append(pool(parts[0] + parts[1]))
    return energies


def _relative(energies: list[np.ndarray]) -> list[np.ndarray]:
    """Log energy of each orientation over that of all: which way edges run, whatever their contrast."""
    logs = [np.log(energy + np.float32(_TINY)) for energy in energies]
    return [log - sum(logs) / len(logs) for log in logs]


@lru_cache(maxsize=8)
def _gabor_pairs(wavelength: float) -> list[tuple[np.ndarray, np.ndarray]]:
    sigma = 0.5 * wavelength
    side = 2 * round(2.5 * sigma) + 1
    pairs = []
    for angle in _ORIENTATIONS:
        shape = (side, side), sigma, np.deg2rad(angle), wavelength, 1.0
        even, odd = (cv2.getGaborKernel(*shape, psi=phase, ktype=cv2.CV_32F) for phase in (0.0, np.pi / 2))
        weight = np.abs(even).sum()
        pairs.append(((even - even.mean()) / weight, odd / weight))
    return pairs
