"""What a camera makes of a scene at a quarter of the size: hr -> lr of the presets `camera` and `mild`.

Real pairs are two photographs of one scene at two focal lengths (RealSR: Cai et al. 2019, two cameras; DRealSR: Wei et
al. 2020, five): lr is what lens, sensor and in-camera processing leave, a blur whose kernel changes with depth, hardly
any noise, no second compression. The chain follows them in their order, in linear light until the picture is developed:

- blur by lens, sensor area and focus: Gaussians, isotropic and not (BSRGAN: Zhang et al. 2021), generalised Gaussians
  and plateaus (Real-ESRGAN: Wang et al. 2021), a defocus disc, a short movement; off centre as registration leaves it;
- shot and read noise, sigma^2 = shot x + read, log-linear in each other, at white-balanced gains; a Bayer mosaic and
  its interpolation in half of the pictures (unprocessing: Brooks et al. 2019, whose strongest noises are left out);
- gentle edge-preserving denoising and sharpening, as cameras do; JPEG of high quality or none.

`mild` has the same optics, then plain Gaussian noise and a harder JPEG. As in `degradation.py`, `draw` makes a
JSON-ready trace and `replay` applies it. Widths are in hr pixels at scale 4 and grow with the scale.
"""

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.pixels import ImageU8
from spasemsr.randomness import generator

Floats = npt.NDArray[np.float32]
SHAPES = ("gaussian", "generalized", "plateau", "disc", "motion")
SHAPE_SHARES = (0.5, 0.15, 0.15, 0.1, 0.1)
SIGMA = (1.2, 3.6)  # of the long axis; 4 px of hr are one pixel of lr, whose area alone has 1.15
RATIO = (0.55, 1.0)  # short axis over long axis
BETA = {"generalized": (0.6, 2.0), "plateau": (1.5, 3.0)}  # exponent of the squared distance
TRAVEL = (1.0, 7.0)  # of a movement
SHIFT = 0.5  # along each axis, at most
ROUND_PROB, MOSAIC_PROB, DENOISE_PROB, SHARPEN_PROB = 0.4, 0.5, 0.5, 0.4
SHOT = (1e-5, 2e-3)  # Brooks et al. go from 1e-4 to 1.2e-2
READ_SLOPE, READ_OFFSET, READ_SPREAD = 2.18, 1.20, 0.26  # ln read = slope ln shot + offset + spread N(0, 1)
RED_GAIN, BLUE_GAIN = (1.9, 2.4), (1.5, 1.9)  # white balance, over green
DENOISE, SHARPEN = (0.5, 2.0), (0.1, 0.7)  # times the noise; times what an unsharp mask of 1 px finds
TOE = 0.04  # of the tone curve, whose slope in black is then sRGB's, about 12
_REACH = np.float32(math.sqrt(1 + TOE**2) - TOE)  # so that 1 maps to 1
_STEPS_OF_MOTION = 9
_SUBSAMPLINGS = {"444": 0x111111, "422": 0x211111, "420": 0x221111}  # OpenCV's sampling factors


@dataclass(frozen=True)
class Development:
    """What happens after the optics: whether in raw, the standard deviation of plain noise in grey levels, JPEG."""

    raw: bool
    noise: tuple[float, float]
    jpeg_prob: float
    jpeg: tuple[int, int]


DEVELOPMENTS = {
    "camera": Development(raw=True, noise=(0.0, 0.0), jpeg_prob=0.7, jpeg=(85, 98)),
    "mild": Development(raw=False, noise=(0.0, 8.0), jpeg_prob=1.0, jpeg=(75, 98)),
}


def draw(preset: str, scale: int, seed: int) -> dict[str, Any]:
    """One degradation of a preset of `DEVELOPMENTS`: the trace, a function of its arguments alone."""
    rng, chosen = generator(seed, "camera"), DEVELOPMENTS[preset]

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    shape, unit = str(rng.choice(SHAPES, p=SHAPE_SHARES)), scale / 4
    kernel = {
        "shape": shape,
        "sigma": between(*SIGMA) * unit,
        "ratio": 1.0 if rng.random() < ROUND_PROB or shape == "disc" else between(*RATIO),
        "rotation": between(0, math.pi),
        "beta": between(*BETA[shape]) if shape in BETA else 1.0,
        "travel": between(*TRAVEL) * unit if shape == "motion" else 0.0,
        "shift": [between(-SHIFT, SHIFT) * unit, between(-SHIFT, SHIFT) * unit],
    }
    trace: dict[str, Any] = {"preset": preset, "seed": seed, "scale": scale, "kernel": kernel}
    if chosen.raw:
        shot = math.exp(between(*np.log(SHOT)))
        read = math.exp(READ_SLOPE * math.log(shot) + READ_OFFSET + READ_SPREAD * float(rng.standard_normal()))
        trace["raw"] = {
            "shot": shot,
            "read": read,
            "gains": [between(*RED_GAIN), 1.0, between(*BLUE_GAIN)],
            "mosaic": bool(rng.random() < MOSAIC_PROB),
        }
        trace["denoise"] = between(*DENOISE) if rng.random() < DENOISE_PROB else 0.0
        trace["sharpen"] = between(*SHARPEN) if rng.random() < SHARPEN_PROB else 0.0
    else:
        trace["noise"] = between(*chosen.noise)
    trace["jpeg"] = None
    if rng.random() < chosen.jpeg_prob:
        quality = int(rng.integers(chosen.jpeg[0], chosen.jpeg[1] + 1))
        trace["jpeg"] = {"quality": quality, "subsampling": str(rng.choice(list(_SUBSAMPLINGS)))}
    return trace


def replay(hr: ImageU8, trace: dict[str, Any]) -> ImageU8:
    """Apply a trace: (H, W, 3) u8 -> lr, (H // scale, W // scale, 3) u8. OpenCV must run in one thread."""
    scale = trace["scale"]
    size = hr.shape[0] // scale, hr.shape[1] // scale
    linear = light_of(hr[: size[0] * scale, : size[1] * scale].astype(np.float32) / np.float32(255))
    kernel = kernel_of(trace["kernel"], scale)
    blurred = cv2.filter2D(linear, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    lr = np.clip(blurred[::scale, ::scale], 0, 1)
    rng = generator(trace["seed"], "camera noise")
    if "raw" in trace:
        lr = _develop(_expose(lr, trace["raw"], rng), trace)
    else:
        lr = picture_of(lr) + rng.standard_normal(lr.shape, dtype=np.float32) * np.float32(trace["noise"] / 255)
    pixels = np.clip(np.rint(lr * np.float32(255)), 0, 255).astype(np.uint8)
    return pixels if trace["jpeg"] is None else _jpeg(pixels, trace["jpeg"])


def light_of(picture: Floats) -> Floats:
    """Values of a picture in [0, 1] -> light, by a square with a toe: no power function, so the same on any machine."""
    return np.square(picture * _REACH + np.float32(TOE)) - np.float32(TOE**2)


def picture_of(light: Floats) -> Floats:
    """Light -> values of a picture in [0, 1], the inverse of `light_of`."""
    return (np.sqrt(light + np.float32(TOE**2)) - np.float32(TOE)) / _REACH


def kernel_of(drawn: dict[str, Any], scale: int) -> Floats:
    """The kernel, (size, size) float32 of sum 1, that a trace describes.

    Its centre lies where the centre of a pixel of lr does, (scale - 1) / 2 from the pixel of hr that is kept, so what
    `[::scale]` takes is aligned with hr; `shift` moves it.
    """
    centre = (scale - 1) / 2
    reach = math.ceil(3 * drawn["sigma"] + drawn["travel"] / 2 + centre + SHIFT)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    y, x = y - centre - drawn["shift"][0], x - centre - drawn["shift"][1]
    cosine, sine = math.cos(drawn["rotation"]), math.sin(drawn["rotation"])
    along, across = (cosine * x + sine * y) / drawn["sigma"], (cosine * y - sine * x) / drawn["sigma"] / drawn["ratio"]
    travel = drawn["travel"] / drawn["sigma"]
    steps = np.linspace(-travel / 2, travel / 2, _STEPS_OF_MOTION) if travel else [0.0]
    kernel = reduce(np.add, (_weight(drawn, (along - step) ** 2 + across**2) for step in steps))
    return (kernel / kernel.sum()).astype(np.float32)


def _weight(drawn: dict[str, Any], squared: np.ndarray) -> np.ndarray:
    """The shape at squared distances in units of sigma."""
    match drawn["shape"]:
        case "disc":  # of the Gaussian's variance: radius 2 sigma; its rim one pixel soft
            return np.clip((2 - np.sqrt(squared)) * drawn["sigma"] + 0.5, 0, 1)
        case "plateau":
            return 1 / (1 + squared ** drawn["beta"])
        case _:
            return np.exp(-0.5 * squared ** drawn["beta"])


def _expose(linear: Floats, raw: dict[str, Any], rng: np.random.Generator) -> Floats:
    """Noise of the sensor at the white balance's gains, and what interpolating a Bayer mosaic leaves."""
    gains = np.asarray(raw["gains"], np.float32)
    sensed = linear / gains
    deviation = np.sqrt(np.float32(raw["shot"]) * sensed + np.float32(raw["read"]))
    sensed = sensed + deviation * rng.standard_normal(sensed.shape, dtype=np.float32)
    if raw["mosaic"]:
        sensed = _demosaic(sensed)
    return np.clip(sensed * gains, 0, 1)


def _demosaic(sensed: Floats) -> Floats:
    """Keep one colour per pixel (RGGB) and interpolate the two others bilinearly."""
    ones = np.zeros_like(sensed)
    ones[::2, ::2, 0] = ones[::2, 1::2, 1] = ones[1::2, ::2, 1] = ones[1::2, 1::2, 2] = 1
    near = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32)
    kept, weight = (cv2.filter2D(each, -1, near, borderType=cv2.BORDER_REFLECT_101) for each in (sensed * ones, ones))
    return np.where(ones > 0, sensed, kept / weight)


def _develop(linear: Floats, trace: dict[str, Any]) -> Floats:
    """Tone curve, then denoising as strong as the noise at mid grey, then sharpening."""
    picture = picture_of(linear)
    if trace["denoise"]:  # the tone curve's slope at 1/4 is about 1
        noise = math.sqrt(trace["raw"]["shot"] / 4 + trace["raw"]["read"])
        picture = cv2.bilateralFilter(picture, 5, 2 * trace["denoise"] * noise + 1e-4, 1.5)
    if trace["sharpen"]:
        smooth = cv2.GaussianBlur(picture, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT_101)
        picture = picture + np.float32(trace["sharpen"]) * (picture - smooth)
    return picture


def _jpeg(pixels: ImageU8, drawn: dict[str, Any]) -> ImageU8:
    """Through a JPEG file and back."""
    options = [cv2.IMWRITE_JPEG_QUALITY, drawn["quality"]]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SUBSAMPLINGS[drawn["subsampling"]]]
    _, file = cv2.imencode(".jpg", pixels[..., ::-1], options)
    return np.ascontiguousarray(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1])
