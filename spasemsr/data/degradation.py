"""Degradation of one patch: hr -> lr and every parameter drawn on the way. Here: Real-ESRGAN's second-order chain.

The only importer of basicsr. A degradation has two halves: `draw` lets basicsr draw kernels and parameters into a
JSON-ready trace, `replay` applies a trace to an image. So `replay(hr, degrade(hr, ...).trace)` gives `lr` again by
construction, on any machine and in any order. Sharpening (USM) and blur run through OpenCV instead of basicsr's torch
convolutions; resizing, noise and JPEG are the very functions that its Real-ESRGAN model calls.
"""

import math
import random
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from spasemsr.data import camera
from spasemsr.data.presets import Order, preset_of, resolve
from spasemsr.data.spec import MIN_SIDE, DegradationSpec
from spasemsr.determinism import single_threaded
from spasemsr.pixels import ImageU8
from spasemsr.randomness import derive_seed

if TYPE_CHECKING:
    from torch import Tensor


KERNEL_SIZES = tuple(range(7, 22, 2))
KERNEL_KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")
KERNEL_PROBS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
SINC_PROB, FINAL_SINC_PROB = 0.1, 0.8
GAUSSIAN_NOISE_PROB, GRAY_NOISE_PROB = 0.5, 0.4
RESIZE_KINDS = ("up", "down", "keep")
RESIZE_MODES = ("area", "bilinear", "bicubic")
VERSION = 1  # raised when the same patch, spec and seed give another lr
_SHAPES = {
    "gaussian": "bivariate_Gaussian",
    "generalized": "bivariate_generalized_Gaussian",
    "plateau": "bivariate_plateau",
}


@dataclass(frozen=True)
class Degraded:
    """lr, (H/scale, W/scale, 3) u8, and the trace: preset, seed and every drawn parameter, JSON-ready."""

    lr: ImageU8
    trace: dict[str, Any]


def degrade(hr: ImageU8, spec: DegradationSpec, scale: int, seed: int) -> Degraded:
    """Degrade hr, (H, W, 3) u8 of at least 80 px, to lr, (H // scale, W // scale, 3) u8.

    A function of its arguments alone: the global random generators are neither used as found nor left changed.
    Raises ValueError for an image that is too small or not RGB u8.
    """
    trace = draw(spec, scale, seed)
    return Degraded(replay(hr, trace), trace)


def degrade_variant(hr: ImageU8, spec: DegradationSpec, scale: int, root_seed: int, key: str, variant: int) -> Degraded:
    """Degradation number `variant` of the patch `key`: `degrade` with the seed that belongs to this pair."""
    return degrade(hr, spec, scale, derive_seed(root_seed, "degradation", key, variant))


def draw(spec: DegradationSpec, scale: int, seed: int) -> dict[str, Any]:
    """Draw one degradation: the trace, without touching an image. A chain has basicsr's Real-ESRGAN's distribution."""
    preset = preset_of(spec, seed)
    if preset in camera.DEVELOPMENTS:
        return camera.draw(preset, scale, seed) | {"usm": spec.usm_target}
    chain = resolve(spec, preset)
    with _scope(seed) as lib:
        trace: dict[str, Any] = {"preset": preset, "seed": seed, "scale": scale, "usm": spec.usm_target}
        trace["first"] = _draw_order(lib, chain.first, derive_seed(seed, "noise", 1))
        trace["second"] = _draw_order(lib, chain.second, derive_seed(seed, "noise", 2))
        # Real-ESRGAN groups [resize to the final size + sinc] and puts JPEG before or after them
        final = trace["second"].pop("jpeg")
        sinc = None
        if np.random.uniform() < FINAL_SINC_PROB:
            size = random.choice(KERNEL_SIZES)
            sinc = {"kind": "sinc", "size": size, "omega": float(np.random.uniform(np.pi / 3, np.pi))}
        order = "sinc_jpeg" if np.random.uniform() < 0.5 else "jpeg_sinc"
        trace["final"] = {"order": order, "mode": random.choice(RESIZE_MODES), "sinc": sinc, "jpeg": final}
    return trace


def _draw_order(lib: types.SimpleNamespace, order: Order, noise_seed: int) -> dict[str, Any]:
    """One pass; a changed range moves its own number and no other."""
    drawn = _draw_kernel(lib, order)  # also where it is not used, so that no other number depends on the probability
    kernel = drawn if np.random.uniform() < order.blur_prob else None
    kind = random.choices(RESIZE_KINDS, order.resize_probs)[0]
    low, high = {"up": (1.0, order.resize_range[1]), "down": (order.resize_range[0], 1.0), "keep": (1.0, 1.0)}[kind]
    resize = {"kind": kind, "factor": float(np.random.uniform(low, high)), "mode": random.choice(RESIZE_MODES)}
    gaussian = np.random.uniform() < GAUSSIAN_NOISE_PROB
    strength = float(np.random.uniform(*(order.noise_range if gaussian else order.poisson_scale_range)))
    noise = {
        "kind": "gaussian" if gaussian else "poisson",
        "strength": strength,
        "gray": bool(np.random.uniform() < GRAY_NOISE_PROB),
        "seed": noise_seed,
    }
    return {"kernel": kernel, "resize": resize, "noise": noise, "jpeg": float(np.random.uniform(*order.jpeg_range))}


def _draw_kernel(lib: types.SimpleNamespace, order: Order) -> dict[str, Any]:
    """Let basicsr draw a blur kernel and note what it drew, by watching its call of the shape function."""
    size = random.choice(KERNEL_SIZES)
    if np.random.uniform() < SINC_PROB:
        lowest = np.pi / 3 if size < 13 else np.pi / 5
        return {"kind": "sinc", "size": size, "omega": float(np.random.uniform(lowest, np.pi))}
    seen: dict[str, Any] = {}
    originals = {kind: getattr(lib.degradations, name) for kind, name in _SHAPES.items()}

    def watch(kind: str) -> Any:
        def shape(size: int, sigma_x: float, sigma_y: float, rotation: float, *beta: float, isotropic: bool) -> Any:
            drawn = {"sigma_x": sigma_x, "sigma_y": sigma_y, "rotation": rotation}
            seen.update({"kind": kind, "size": size, "isotropic": isotropic, "beta": float(beta[0]) if beta else None})
            seen.update({name: float(value) for name, value in drawn.items()})
            return originals[kind](size, sigma_x, sigma_y, rotation, *beta, isotropic=isotropic)

        return shape

    try:
        for kind, name in _SHAPES.items():
            setattr(lib.degradations, name, watch(kind))
        ranges = order.blur_sigma, order.blur_sigma, (-math.pi, math.pi), order.betag_range, order.betap_range
        lib.degradations.random_mixed_kernels(KERNEL_KINDS, KERNEL_PROBS, size, *ranges, noise_range=None)
    finally:
        for kind, name in _SHAPES.items():
            setattr(lib.degradations, name, originals[kind])
    return seen


def kernel_of(drawn: dict[str, Any]) -> np.ndarray:
    """The kernel, (size, size) float64 of sum 1, that a trace describes: bit for bit the one basicsr drew."""
    lib, size = _basicsr(), drawn["size"]
    with np.errstate(divide="ignore", invalid="ignore"):  # the sinc's centre is 0 / 0 before basicsr fills it in
        if drawn["kind"] == "sinc":
            return lib.degradations.circular_lowpass_kernel(drawn["omega"], size, pad_to=0)
        beta = () if drawn["beta"] is None else (drawn["beta"],)
        shape = getattr(lib.degradations, _SHAPES[drawn["kind"]])
        sigmas = drawn["sigma_x"], drawn["sigma_y"]
        kernel = shape(size, *sigmas, drawn["rotation"], *beta, isotropic=drawn["isotropic"])
    return kernel / np.sum(kernel)


def replay(hr: ImageU8, trace: dict[str, Any]) -> ImageU8:
    """Apply a trace to the image it was drawn for: (H, W, 3) u8 -> lr, (H // scale, W // scale, 3) u8."""
    if hr.ndim != 3 or hr.shape[2] != 3 or hr.dtype != np.uint8 or min(hr.shape[:2]) < MIN_SIDE:
        raise ValueError(f"hr must be (H, W, 3) u8 of at least {MIN_SIDE} px, not {hr.shape} {hr.dtype}")
    from torch.nn.functional import interpolate

    if trace["preset"] in camera.DEVELOPMENTS:
        with _scope(trace["seed"]):
            return camera.replay(sharpen(hr) if trace["usm"] else hr, trace)
    first, second, final, scale = trace["first"], trace["second"], trace["final"], trace["scale"]
    height, width = hr.shape[:2]
    with _scope(trace["seed"]) as lib:
        pixels = np.divide(hr, np.float32(255), dtype=np.float32)
        if trace["usm"]:
            pixels = lib.usm_sharp(pixels)
        image = _to_tensor(_filter(pixels, first["kernel"]))
        image = interpolate(image, scale_factor=first["resize"]["factor"], mode=first["resize"]["mode"])
        image = _jpeg(lib, _add_noise(lib, image, first["noise"]), first["jpeg"])

        if second["kernel"]:
            image = _blur(image, second["kernel"])
        factor = second["resize"]["factor"]
        size = int(height / scale * factor), int(width / scale * factor)
        image = _add_noise(lib, interpolate(image, size=size, mode=second["resize"]["mode"]), second["noise"])

        size = height // scale, width // scale
        if final["order"] == "sinc_jpeg":
            image = _blur(interpolate(image, size=size, mode=final["mode"]), final["sinc"])
            image = _jpeg(lib, image, final["jpeg"])
        else:
            image = interpolate(_jpeg(lib, image, final["jpeg"]), size=size, mode=final["mode"])
            image = _blur(image, final["sinc"])
        lr = (image[0].permute(1, 2, 0) * 255.0).round_().clamp_(0, 255)
    return np.ascontiguousarray(lr.numpy().astype(np.uint8))


def sharpen(hr: ImageU8) -> ImageU8:
    """The USM-sharpened copy of hr, (H, W, 3) u8, that `usm_target` puts in the place of the ground truth."""
    with _scope(0) as lib:
        sharp = lib.usm_sharp(np.divide(hr, np.float32(255), dtype=np.float32))
    return np.clip(np.rint(sharp * 255.0), 0, 255).astype(np.uint8)


def _filter(pixels: np.ndarray, drawn: dict[str, Any]) -> np.ndarray:
    """Correlate (H, W, 3) float32 with a drawn kernel, mirrored at the border as basicsr's torch filter2D does."""
    return cv2.filter2D(pixels, -1, kernel_of(drawn).astype(np.float32), borderType=cv2.BORDER_REFLECT_101)


def _blur(image: "Tensor", drawn: dict[str, Any] | None) -> "Tensor":
    if drawn is None:
        return image
    return _to_tensor(_filter(np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()), drawn))


def _to_tensor(pixels: np.ndarray) -> "Tensor":
    """(H, W, 3) -> (1, 3, H, W), laid out as basicsr has it so that the resize takes the same code path."""
    import torch

    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).contiguous()


def _add_noise(lib: types.SimpleNamespace, image: "Tensor", noise: dict[str, Any]) -> "Tensor":
    import torch

    torch.default_generator.manual_seed(noise["seed"])
    add = getattr(
        lib.degradations, {"gaussian": "add_gaussian_noise_pt", "poisson": "add_poisson_noise_pt"}[noise["kind"]]
    )
    return add(image, noise["strength"], gray_noise=float(noise["gray"]), clip=True, rounds=False)


def _jpeg(lib: types.SimpleNamespace, image: "Tensor", quality: float) -> "Tensor":
    import torch

    with torch.no_grad():
        return lib.jpeger(image.clamp(0, 1), quality=torch.tensor([quality]))  # basicsr has float32 qualities


_LOCK = threading.RLock()  # the generators and the watched functions belong to the process


@contextmanager
def _scope(seed: int) -> Iterator[types.SimpleNamespace]:
    """basicsr inside a scope that seeds Python's, NumPy's and torch's global generators and puts them back after.

    torch's and OpenCV's intra-op threads are 1 inside: with 2, a bilinear resize differs in its last bits.
    """
    import torch

    with _LOCK:
        lib = _basicsr()
        states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
        try:
            random.seed(seed)
            np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
            with single_threaded():
                yield lib
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.default_generator.set_state(states[2])


@lru_cache(maxsize=1)
def _basicsr() -> types.SimpleNamespace:
    """Import basicsr once, without what its import does to the process.

    It asks torchvision for a module that is gone, of which it uses one function, and sets NumPy's error handling.
    """
    from torchvision.transforms.functional import rgb_to_grayscale

    name = "torchvision.transforms.functional_tensor"
    alias = types.ModuleType(name)
    alias.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    missing = name not in sys.modules
    sys.modules.setdefault(name, alias)
    try:
        with np.errstate(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from basicsr.data import degradations
            from basicsr.utils.diffjpeg import DiffJPEG
            from basicsr.utils.img_process_util import usm_sharp
    finally:
        if missing:
            del sys.modules[name]
    return types.SimpleNamespace(degradations=degradations, usm_sharp=usm_sharp, jpeger=DiffJPEG(differentiable=False))
