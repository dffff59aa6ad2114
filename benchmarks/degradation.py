"""Images per second of our degradation chain against basicsr's own, on one core, in one run.

    python benchmarks/degradation.py [IMAGE ...] [--rounds 20] [--sizes 512 256 128]

The reference is `RealESRGANModel.feed_data` of the installed basicsr, run as it stands on the CPU with torch's
USMSharp and filter2D; only its draws are answered from our trace, so that both sides do the same work on the same
parameters. The second USM pass, which feed_data makes for its training target, is not counted against it.
Without images: the photographs that ship inside scikit-image.
"""

import argparse
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from spasemsr.data import degradation
from spasemsr.data.spec import DegradationSpec

KERNEL = 21


def reference(hr: np.ndarray, trace: dict[str, Any]) -> np.ndarray:
    """Basicsr's own lr, (N // scale, N // scale, 3) u8, of a square hr under the parameters of a trace."""
    from basicsr.data import degradations
    from basicsr.models import realesrgan_model
    from basicsr.utils import DiffJPEG, USMSharp

    first, second, final = trace["first"], trace["second"], trace["final"]
    uniforms = [value for value in _uniforms(first, second, final) if value is not None]
    choices = [[first["resize"]["kind"]], [second["resize"]["kind"]]]
    modes = [first["resize"]["mode"], second["resize"]["mode"], final["mode"]]
    noises = [first["noise"], second["noise"]]
    sharpen, sharpened = USMSharp(), []

    def usm(image: torch.Tensor) -> torch.Tensor:
        if sharpened or not trace["usm"]:
            return image
        sharpened.append(True)
        return sharpen(image)

    def add(image: torch.Tensor, **_: Any) -> torch.Tensor:
        noise = noises.pop(0)
        torch.manual_seed(noise["seed"])
        kind = getattr(degradations, f"add_{noise['kind']}_noise_pt")
        return kind(image, noise["strength"], gray_noise=float(noise["gray"]), clip=True, rounds=False)

    model = SimpleNamespace(
        is_train=True,
        device="cpu",
        usm_sharpener=usm,
        jpeger=DiffJPEG(differentiable=False),
        _dequeue_and_enqueue=lambda: None,
        opt={
            "scale": trace["scale"],
            "gt_size": hr.shape[0],
            "resize_prob": None,
            "resize_prob2": None,
            "resize_range": (0.0, 0.0),
            "resize_range2": (0.0, 0.0),
            "gray_noise_prob": None,
            "gray_noise_prob2": None,
            "gaussian_noise_prob": 0.5,
            "gaussian_noise_prob2": 0.5,
            "noise_range": None,
            "noise_range2": None,
            "poisson_scale_range": None,
            "poisson_scale_range2": None,
            "second_blur_prob": 0.5,
            "jpeg_range": (first["jpeg"], first["jpeg"]),
            "jpeg_range2": (final["jpeg"], final["jpeg"]),
        },
    )
    data = {
        "gt": torch.from_numpy(hr.transpose(2, 0, 1)[None].astype(np.float32) / 255),
        "kernel1": _padded(first["kernel"]),
        "kernel2": _padded(second["kernel"]),
        "sinc_kernel": _padded(final["sinc"]),
    }
    scripted = {
        "random": SimpleNamespace(choices=lambda *_: choices.pop(0), choice=lambda _: modes.pop(0)),
        "np": SimpleNamespace(random=SimpleNamespace(uniform=lambda *_: uniforms.pop(0))),
        "random_add_gaussian_noise_pt": add,
        "random_add_poisson_noise_pt": add,
    }
    with patch.multiple(realesrgan_model, **scripted), torch.random.fork_rng(devices=[]), torch.no_grad():
        realesrgan_model.RealESRGANModel.feed_data(model, data)
    if uniforms or choices or modes or noises:
        raise RuntimeError("basicsr drew fewer numbers than the trace holds: its feed_data has changed")
    return (model.lq[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)


def _uniforms(first: dict[str, Any], second: dict[str, Any], final: dict[str, Any]) -> list[float | None]:
    """The answers to feed_data's calls of np.random.uniform, in its order; None where it does not ask."""
    yes, no = 0.0, 1.0
    return [
        None if first["resize"]["kind"] == "keep" else first["resize"]["factor"],
        yes if first["noise"]["kind"] == "gaussian" else no,
        yes if second["kernel"] else no,
        None if second["resize"]["kind"] == "keep" else second["resize"]["factor"],
        yes if second["noise"]["kind"] == "gaussian" else no,
        yes if final["order"] == "sinc_jpeg" else no,
    ]


def _padded(drawn: dict[str, Any] | None) -> torch.Tensor:
    """The (1, 21, 21) float32 kernel of a trace, zero-padded as basicsr's data set pads it; a pulse for none."""
    kernel = np.ones((1, 1)) if drawn is None else degradation.kernel_of(drawn)
    pad = (KERNEL - kernel.shape[0]) // 2
    return torch.from_numpy(np.pad(kernel, pad).astype(np.float32))[None]


def photographs(paths: list[Path], size: int) -> list[np.ndarray]:
    """One square centre crop, (size, size, 3) u8, of each image that is large enough."""
    crops = []
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        if top >= 0 and left >= 0:
            crops.append(np.ascontiguousarray(image[top : top + size, left : left + size]))
    return crops


def measure(size: int, rounds: int, paths: list[Path]) -> None:
    crops = photographs(paths, size)
    if not crops:
        raise SystemExit(f"No image of at least {size} px.")
    spec = DegradationSpec(preset="seesr", usm_target=True)
    degradation.degrade(crops[0], spec, 4, 0), reference(crops[0], degradation.draw(spec, 4, 0))  # warm up
    ours, theirs, close = 0.0, 0.0, []
    for seed in range(rounds):
        hr = crops[seed % len(crops)]
        start = time.perf_counter()
        degraded = degradation.degrade(hr, spec, 4, seed)
        middle = time.perf_counter()
        expected = reference(hr, degraded.trace)
        ours, theirs = ours + middle - start, theirs + time.perf_counter() - middle
        apart = np.abs(degraded.lr.astype(int) - expected.astype(int))
        close.append((float((apart <= 1).mean()), float(apart.mean())))
    within, mean = np.mean(close, axis=0)
    print(
        f"{size:4d} px  ours {rounds / ours:7.2f} img/s  basicsr {rounds / theirs:7.2f} img/s  "
        f"ratio {theirs / ours:5.1f}x  pixels within 1 grey level {within:.4%}  mean difference {mean:.5f}",
        flush=True,
    )


def main() -> None:
    import skimage

    inside = Path(skimage.__file__).parent / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 256, 128])
    args = parser.parse_args()
    paths = args.images or [inside / name for name in ("astronaut.png", "hubble_deep_field.jpg", "retina.jpg")]
    torch.set_num_threads(1)
    for size in args.sizes:
        measure(size, args.rounds, paths)


if __name__ == "__main__":
    main()
