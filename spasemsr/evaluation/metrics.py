"""How one restored image is scored: PSNR and SSIM on Y, and NIQE, in float64 on (H, W, 3) uint8 RGB.

PSNR and SSIM follow the super-resolution papers to the digit: Y of BT.601 in limited range, no border crop. NIQE is
basicsr's (float32 statistics, 96 px blocks, its packaged constants) with one difference: the half-size image is exact
integer arithmetic here and float32 BLAS there, which moves basicsr's own value between machines by up to 5e-4.

What the numbers are not defined for is refused by name (a UserError): another size than hr, floats (so NaN), 16 bits,
alpha, an image too small for the metric. A metric that has no value on a valid image (NIQE of a constant one) raises
MetricUndefined, which the score table records as such.
"""

import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import scipy  # loads a submodule when it is first used: NIQE's alone take a second

from spasemsr.backends.extractors.spec import CELL
from spasemsr.errors import UserError
from spasemsr.evaluation import perceptual
from spasemsr.evaluation.distances import KINDS, SMALLEST, FeatureDistance
from spasemsr.evaluation.sizes import ANY, Smallest
from spasemsr.evaluation.spec import MetricName
from spasemsr.hashing import sha256_bytes
from spasemsr.pixels import ImageU8
from spasemsr.weights.packages import NotInstalled

log = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

PROTOCOL = "sr-y-nocrop@1"
NAMES: tuple[str, ...] = get_args(MetricName)
_MSE_FLOOR = 1e-8
_SSIM_SIDE, _SSIM_SIGMA = 11, 1.5
_SSIM_C1, _SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_BLOCK = 96  # NIQE's block side
_SSIM_SIZE, _TEXTURE_SIZE, _NIQE_SIZE = Smallest(_SSIM_SIDE), Smallest(CELL), Smallest(_BLOCK, 2)
_NIQE_FILE = "niqe_pris_params.npz"
_NIQE_SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"


class MetricUndefined(Exception):
    """The metric has no value on this image; the message says why. Recorded per image by name, never skipped."""


@dataclass(frozen=True)
class Metric:
    """One metric: how to compute it from (restored, hr), and everything a reader needs to trust its column.

    `compute` ignores hr where `needs_reference` is false; `decimals` is how many digits the field prints.
    """

    name: str
    label: str
    higher_is_better: bool
    needs_reference: bool
    decimals: int
    compute: Callable[[ImageU8, ImageU8], float]
    implementation: str
    version: str
    weights: str
    colour_space: str
    recipe: str
    crop: int = 0
    protocol: str = PROTOCOL
    smallest: Smallest = ANY

    def describe(self) -> dict[str, Any]:
        """The provenance that accompanies every number of this metric."""
        return {
            "metric": self.name,
            "implementation": self.implementation,
            "version": self.version,
            "weights": self.weights,
            "colour_space": self.colour_space,
            "crop": self.crop,
            "protocol": self.protocol,
            "recipe": self.recipe,
            "higher_is_better": self.higher_is_better,
        }


def build_metric(name: str) -> Metric:
    """The metric of this name in `params.yaml`; an unknown name is a UserError."""
    ours: dict[str, Any] = {
        "implementation": "spasemsr.evaluation.metrics",
        "version": "1",
        "colour_space": "Y of YCbCr, BT.601 limited range",
    }
    match name:
        case "psnr":
            recipe = "Y in [0, 1] as float64, peak 1, MSE + 1e-8, dB"
            return Metric(name, "PSNR-Y", True, True, 2, psnr_y, **ours, weights="none", recipe=recipe)
        case "ssim":
            recipe = "Y in [0, 255] rounded, 11x11 Gaussian sigma 1.5, valid region, contrast-structure clamped at 0"
            about = {**ours, "smallest": _SSIM_SIZE}
            return Metric(name, "SSIM-Y", True, True, 4, ssim_y, **about, weights="none", recipe=recipe)
        case "texture":
            recipe = "log energies of 10 fixed filters in cells of 8 px, mean absolute difference in their deviations"
            about = {**ours, "colour_space": "RGB", "smallest": _TEXTURE_SIZE}
            return Metric(name, "Texture error", False, True, 3, texture_error, **about, weights="none", recipe=recipe)
        case "niqe":
            weights = f"basicsr {importlib.metadata.version('basicsr')} {_NIQE_FILE} sha256:{_NIQE_SHA256[:16]}"
            recipe = "Y in [0, 255] rounded, 96 px blocks, two scales, distance to the pristine model"
            about = {**ours, "smallest": _NIQE_SIZE}
            return Metric(name, "NIQE", False, False, 2, _niqe_alone, **about, weights=weights, recipe=recipe)
        case _ if name in KINDS:
            distance, kind = FeatureDistance(name), KINDS[name]
            about_it = ("spasemsr.evaluation.distances", distance.version, distance.weights, "RGB", kind.recipe)
            return Metric(name, kind.label, False, True, 4, distance, *about_it, smallest=SMALLEST)
        case _ if name in perceptual.METRICS:
            learned, score = perceptual.METRICS[name], perceptual.PerceptualScore(name)
            return Metric(
                name,
                learned.label,
                learned.higher_is_better,
                learned.needs_reference,
                learned.decimals,
                score,
                "pyiqa",
                score.version,
                score.weights,
                "RGB",
                learned.recipe,
            )
    raise UserError(f"No metric named {name!r}.", f"Choose from: {', '.join(NAMES)}")


def build_metrics(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names, in order; one whose package is not installed is left out, with a warning."""
    found = []
    for name in names:
        try:
            found.append(build_metric(name))
        except NotInstalled as error:
            log.warning("%s is left out of the metrics. %s %s", name, error.what, error.remedy)
    return found


def luma(image: ImageU8) -> Float64:
    """(H, W, 3) uint8 RGB -> (H, W) float64 Y of BT.601 in limited range, in [16, 235] / 255."""
    red, green, blue = (image[..., channel] / 255.0 for channel in range(3))
    return (65.481 * red + 128.553 * green + 24.966 * blue + 16.0) / 255.0


def psnr_y(restored: ImageU8, hr: ImageU8) -> float:
    """PSNR on float Y with peak 1, in dB: 10 log10(1 / (MSE + 1e-8)), so 80 dB where the images agree."""
    _check_pair("psnr", restored, hr)
    mse = float(np.mean((luma(restored) - luma(hr)) ** 2))
    return 10.0 * float(np.log10(1.0 / (mse + _MSE_FLOOR)))


def texture_error(restored: ImageU8, hr: ImageU8) -> float:
    """Mean |E(restored) - E(hr)| over the texture energies of the filter bank: how much texture is where, not which.

    0 where the images agree; a texture of the right strength in another phase costs little, a missing one much.
    """
    from spasemsr.backends.extractors.filter_bank import texture_energies

    _check_pair("texture", restored, hr)
    _TEXTURE_SIZE.require("texture: an image", *hr.shape[:2])
    return float(np.abs(texture_energies(restored) - texture_energies(hr)).mean(dtype=np.float64))


def ssim_y(restored: ImageU8, hr: ImageU8) -> float:
    """SSIM on rounded Y x 255: 11x11 Gaussian of sigma 1.5, valid region, contrast-structure term clamped at 0."""
    _check_pair("ssim", restored, hr)
    _SSIM_SIZE.require("ssim: an image", *hr.shape[:2])
    x, y = _levels(restored), _levels(hr)
    mean_x, mean_y = _window(x), _window(y)
    var_x = _window(x * x) - mean_x**2
    var_y = _window(y * y) - mean_y**2
    cov = _window(x * y) - mean_x * mean_y
    contrast_structure = np.maximum((2 * cov + _SSIM_C2) / (var_x + var_y + _SSIM_C2), 0.0)
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x**2 + mean_y**2 + _SSIM_C1)
    return float(np.mean(luminance * contrast_structure))


def niqe(image: ImageU8) -> float:
    """NIQE: distance between the image's multivariate Gaussian of natural-scene features and the pristine one.

    Needs at least two whole 96 px blocks (a UserError names the size), and two that are not flat (MetricUndefined).
    """
    _check("niqe", "image", image)
    _NIQE_SIZE.require("niqe: an image", *image.shape[:2])
    rows, columns = (side // _BLOCK for side in image.shape[:2])
    y = _levels(image)[: rows * _BLOCK, : columns * _BLOCK]
    mean, covariance, window = _pristine()
    features = np.concatenate(
        [
            _scale_features(y, rows, columns, _BLOCK, window),
            _scale_features(_halve(y), rows, columns, _BLOCK // 2, window),
        ],
        axis=1,
    )  # (blocks, 36)
    usable = features[~np.isnan(features).any(axis=1)]
    if len(usable) < 2:
        raise MetricUndefined(f"{len(usable)} of {len(features)} blocks have any structure; NIQE needs two")
    offset = mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((covariance + np.cov(usable, rowvar=False)) / 2)
    return float(np.sqrt(offset @ inverse @ offset))


def _niqe_alone(restored: ImageU8, hr: ImageU8) -> float:
    """NIQE as a metric of a pair: hr is not looked at."""
    return niqe(restored)


def _levels(image: ImageU8) -> Float64:
    """(H, W) Y x 255 rounded to integers, as float64."""
    return np.rint(luma(image) * 255.0)


def _window(values: Float64) -> Float64:
    """Weighted mean in SSIM's Gaussian window, at the places where the window lies inside the image."""
    kernel = cv2.getGaussianKernel(_SSIM_SIDE, _SSIM_SIGMA, cv2.CV_64F)
    half = _SSIM_SIDE // 2
    return cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel)[half:-half, half:-half]


@cache
def _pristine() -> tuple[Float64, Float64, Float64]:
    """Mean (36,) and covariance (36, 36) of pristine images and the 7x7 window, read without importing basicsr."""
    spec = importlib.util.find_spec("basicsr")  # finding is free, importing takes ten seconds
    path = Path((spec.submodule_search_locations or [""])[0]) / "metrics" / _NIQE_FILE if spec else Path(_NIQE_FILE)
    remedy = "Install the pinned dependencies again (see README)."
    try:
        data = path.read_bytes()
    except OSError:
        raise UserError(f"niqe: basicsr's constants, {_NIQE_FILE}, are not installed.", remedy) from None
    if sha256_bytes(data) != _NIQE_SHA256:
        raise UserError(f"niqe: {_NIQE_FILE} is not the file that basicsr 1.4.2 ships.", remedy)
    with np.load(path, allow_pickle=False) as file:
        return file["mu_pris_param"].reshape(-1), file["cov_pris_param"], file["gaussian_window"]


def _halve(y: Float64) -> Float64:
    """MATLAB's antialiased bicubic imresize by 1/2, of an image with even sides; exact on integers.

    Its eight weights are multiples of 1/256, so nothing is rounded and the result is the same on every machine.
    """
    distance = np.abs(np.arange(-3.5, 4.0) / 2)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance <= 1, near, far) / 2
    for _ in range(2):  # rows, then columns, by transposing twice
        padded = np.pad(y, ((3, 3), (0, 0)), mode="symmetric")
        y = sum(weight * padded[k : k + len(y) - 1 : 2] for k, weight in enumerate(weights)).T
    return y


def _scale_features(y: Float64, rows: int, columns: int, side: int, window: Float64) -> Float64:
    """Features of every block at one scale: (rows * columns, 18), column by column as basicsr orders them."""
    # float32 is part of the recipe: it makes the local mean of a flat region equal its pixels, so that the normalised
    # coefficient there is 0; float64 leaves +-1e-14, whose random signs move NIQE by 1 to 2 %.
    values = y.astype(np.float32)
    mean = scipy.ndimage.convolve(values, window, mode="nearest")
    deviation = np.sqrt(np.abs(scipy.ndimage.convolve(np.square(values), window, mode="nearest") - np.square(mean)))
    normalised = (values - mean) / (deviation + 1)
    blocks = [
        normalised[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for column in range(columns)
        for row in range(rows)
    ]
    return np.array([_block_features(block) for block in blocks])


def _block_features(block: npt.NDArray[np.float32]) -> list[float]:
    """The 18 natural-scene features of a block: its own fit, and those of its products with four neighbours."""
    gamma = scipy.special.gamma
    alpha, left, right = _fit_aggd(block)
    features = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right = _fit_aggd(block * np.roll(block, shift, axis=(0, 1)))
        features += [
            alpha,
            (right - left) * (gamma(2 / alpha) / gamma(1 / alpha)),
            left,
            right,
        ]
    return features


@cache
def _aggd_grid() -> tuple[Float64, Float64]:
    """Candidate shapes of the generalised Gaussian and the moment ratio each implies."""
    shapes = np.arange(0.2, 10.001, 0.001)
    return shapes, np.square(scipy.special.gamma(2 / shapes)) / (
        scipy.special.gamma(1 / shapes) * scipy.special.gamma(3 / shapes)
    )


def _fit_aggd(values: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Asymmetric generalised Gaussian by moment matching: shape, left scale, right scale; NaN for a flat block."""
    negative, positive = values[values < 0], values[values > 0]
    if not len(negative) or not len(positive):
        return float("nan"), float("nan"), float("nan")
    left, right = np.sqrt(np.mean(negative**2)), np.sqrt(np.mean(positive**2))
    ratio = left / right
    moment = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
    moment = (moment * (ratio**3 + 1) * (ratio + 1)) / ((ratio**2 + 1) ** 2)
    shapes, moments = _aggd_grid()
    shape = float(shapes[np.argmin((moments - moment) ** 2)])
    scale = np.sqrt(scipy.special.gamma(1 / shape) / scipy.special.gamma(3 / shape))
    return shape, float(left * scale), float(right * scale)


def _check_pair(metric: str, restored: ImageU8, hr: ImageU8) -> None:
    """Both images are scoreable and of one size, or a UserError that names the difference."""
    _check(metric, "restored", restored)
    _check(metric, "hr", hr)
    if restored.shape != hr.shape:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (restored, hr)]
        raise UserError(
            f"{metric}: restored is {sizes[0]} but hr is {sizes[1]}.",
            "Nothing is resized or cropped: score equal sizes.",
        )


def _check(metric: str, role: str, image: npt.NDArray[Any]) -> None:
    """8-bit RGB, or a UserError that names what it is instead."""
    remedy = "Metrics are defined on 8-bit RGB: (H, W, 3) uint8."
    if np.issubdtype(image.dtype, np.floating):
        found = "floats with NaN" if np.isnan(image).any() else "floats"
        raise UserError(f"{metric}: {role} holds {found}.", f"{remedy} Clip, round and convert first.")
    if image.dtype != np.uint8:
        bits = image.dtype.itemsize * 8
        raise UserError(f"{metric}: {role} is {image.dtype}, {bits} bits a channel.", remedy)
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        found = "has alpha" if image.ndim == 3 and image.shape[2] in (2, 4) else f"has shape {image.shape}"
        raise UserError(f"{metric}: {role} {found}.", remedy)
