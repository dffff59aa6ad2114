"""Photographs that ship inside dependencies, read in place, and plain ways to spoil them."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import skimage
import sklearn
from PIL import Image

_SKIMAGE = Path(skimage.__file__).parent / "data"
_SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
FILES = {
    **{path.stem: path for path in sorted(_SKIMAGE.glob("*.png")) + sorted(_SKIMAGE.glob("*.jpg"))},
    **{path.stem: path for path in sorted(_SKLEARN.glob("*.jpg"))},
    "grace_hopper": Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg",
}
# what the constants inside the embedded backends were measured on
MEASURED = (
    *("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "retina", "ihc", "camera", "brick", "grass"),
    *("gravel", "moon", "coins", "flower", "china", "grace_hopper"),
)
FLAT = {
    "black": np.zeros((48, 64, 3), np.uint8),
    "white": np.full((48, 64, 3), 255, np.uint8),
    "blue": np.full((48, 64, 3), (20, 40, 200), np.uint8),
}


def photograph(name: str, size: int | None = None) -> np.ndarray:
    """A photograph, (H, W, 3) u8 RGB, or its centre crop of `size` px."""
    image = np.asarray(Image.open(FILES[name]).convert("RGB"))
    if size is None:
        return image
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[max(top, 0) :, max(left, 0) :][:size, :size])


def shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    size = image.shape[1] // factor, image.shape[0] // factor
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image


def noisy(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].copy()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of all channels, dB."""
    error = np.mean((one.astype(float) - other.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / (error + 1e-9)))


def draw_photograph(path: Path, seed: int) -> None:
    """A picture with edges and areas, 260 px a side: large enough for several patches."""
    rng = np.random.default_rng(seed)
    pixels = np.full((260, 260, 3), rng.integers(40, 200, 3), np.uint8)
    for _ in range(30):
        y, x = rng.integers(0, 220, 2)
        pixels[y : y + rng.integers(8, 60), x : x + rng.integers(8, 60)] = rng.integers(0, 256, 3)
    Image.fromarray(pixels).save(path)
