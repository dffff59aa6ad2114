"""A folder of pictures made by anybody's code -> keys, and each file -> the 8-bit RGB that is scored.

A key is the file's stem, less a suffix that the caller names; position and order play no part. Pixels are taken as they
are stored, as every published evaluation does. Defined treatments, each recorded by name beside the score:

| picture | becomes |
|---|---|
| 16 bits a channel | 8 bits, full range to full range, rounded (`16_bit`) |
| alpha that is opaque everywhere | dropped (`opaque_alpha`) |
| gray, 1-bit, palette | RGB (`gray`, `one_bit`, `palette`) |
| JPEG, lossy WebP | scored as decoded (`jpeg`, `webp`) |
| EXIF orientation | applied (`exif_rotated`) |
| ICC profile | ignored (`icc_ignored`) |
| one colour all over | scored (`constant`); a metric that has no value there says so |

Refused by name: transparency, floats and NaN, CMYK, truncated and unreadable files, formats that `ingest` refuses.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin

from spasemsr.errors import RejectedSample, UserError
from spasemsr.images.flat import FOREIGN_SUFFIXES, SUFFIXES, Decoded, open_image, read_bytes

MAX_BYTES, MAX_PIXELS = 500_000_000, 200_000_000
_ORIENTATION, _BITS_PER_SAMPLE, _SAMPLE_FORMAT = 0x0112, 258, 339
_PNG_DEPTH = slice(24, 26)  # bit depth and colour type in the header
_NAMES = {"L": "gray", "1": "one_bit", "P": "palette"}


def index(folder: Path, what: str, strip: Sequence[str] = ()) -> dict[str, Path]:
    """Key -> file of every picture in a folder, sorted by key; `strip` lists endings that are no part of a key.

    Files that are no pictures, hidden files and subfolders are left alone. Raises UserError for an absent or empty
    folder, a picture in a format that cannot be scored, and two files of one key.
    """
    if not folder.is_dir():
        raise UserError(f"{what}: there is no folder {folder}.", "Give the folder that holds the pictures.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or not path.is_file():
            continue
        if suffix in FOREIGN_SUFFIXES:
            raise UserError(f"{what}: {path.name} is in a format that is not scored.", "Convert it to PNG.")
        if suffix not in SUFFIXES:
            continue
        key = _key(path.stem, strip)
        if key in found:
            raise UserError(
                f"{what}: {found[key].name} and {path.name} have the same key, {key}.", "Keep one file for each key."
            )
        found[key] = path
    if not found:
        raise UserError(f"{what}: no pictures in {folder}.", f"Expected files ending in {', '.join(sorted(SUFFIXES))}.")
    return dict(sorted(found.items()))


def read_scored(path: Path) -> Decoded:
    """One picture as (H, W, 3) uint8 RGB and the treatments it received; UserError names the file and what is wrong."""
    data = b""
    try:
        data = read_bytes(path, MAX_BYTES)
        return _treat(data, open_image(data, MAX_PIXELS))
    except RejectedSample as rejected:
        reason = "floats: it holds floats" if rejected.reason == "corrupt" and _holds_floats(data) else rejected
        raise UserError(f"{path} cannot be scored, {reason}.", "Write it again as 8-bit RGB PNG.") from None


def _key(stem: str, strip: Sequence[str]) -> str:
    for ending in strip:
        if stem.endswith(ending) and len(stem) > len(ending):
            return stem[: -len(ending)]
    return stem


def _treat(data: bytes, image: Image.Image) -> Decoded:
    """A loaded picture -> its stored pixels as 8-bit RGB. Raises RejectedSample."""
    notes = ["icc_ignored"] if image.info.get("icc_profile") else []
    if image.format == "JPEG" or (image.format == "WEBP" and b"VP8L" not in data[:64]):
        notes.append(image.format.lower())
    if 1 < image.getexif().get(_ORIENTATION, 1) < 9:
        notes.append("exif_rotated")
        image = ImageOps.exif_transpose(image)
    deep = _deep(data, image)
    if deep is not None:
        notes.append("16_bit")
        pixels = deep
    elif image.mode == "F":
        values = np.asarray(image)
        held = "floats with NaN" if not np.isfinite(values).all() else "floats"
        raise RejectedSample("floats", f"it holds {held}")
    elif image.mode == "P" or "transparency" in image.info:
        notes.append(_NAMES.get(image.mode, "palette"))
        pixels = np.asarray(image.convert("RGBA"))
    elif image.mode in ("RGB", "RGBA", "L", "LA", "1"):
        if image.mode in _NAMES:
            notes.append(_NAMES[image.mode])
        pixels = np.asarray(image.convert("RGBA" if image.mode == "LA" else image.mode.replace("1", "L")))
    else:
        raise RejectedSample("unsupported_mode", f"its colour mode is {image.mode}")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 4:
        if pixels[..., 3].min() < 255:
            raise RejectedSample("transparent", "it has transparent pixels, whose colour is anybody's guess")
        if image.mode in ("RGBA", "LA") or deep is not None:
            notes.append("opaque_alpha")
        pixels = pixels[..., :3]
    pixels = np.ascontiguousarray(pixels)
    if (pixels == pixels[0, 0]).all():
        notes.append("constant")
    return Decoded(pixels, tuple(notes))


def _holds_floats(data: bytes) -> bool:
    """Whether a file is a TIFF of several float channels, which Pillow cannot open; its tags say so, undecoded."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    tags, file = TiffImagePlugin.ImageFileDirectory_v2(data[:8]), io.BytesIO(data)
    try:
        file.seek(tags.next)
        tags.load(file)
        return 3 in tags.get(_SAMPLE_FORMAT, ())
    except Exception:  # whatever else is wrong with it was said already
        return False


def _deep(data: bytes, image: Image.Image) -> npt.NDArray[np.uint8] | None:
    """A file of 16 bits a channel at 8 bits, (H, W) or (H, W, 3 or 4); None for other files."""
    if image.mode in ("I", "I;16", "I;16L", "I;16B", "I;16N"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise RejectedSample("unsupported_mode", "its integers do not fit 16 bits")
        return _rounded(values)
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,)) if image.format == "TIFF" else (8,)
    if not (image.format == "PNG" and data[_PNG_DEPTH] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")) and 16 not in bits:
        return None
    planes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # Pillow keeps the high bytes only
    if planes is None or planes.dtype != np.uint16 or planes.ndim != 3:
        raise RejectedSample("unsupported_mode", "its 16-bit channels cannot be read")
    return _rounded(planes[..., [2, 1, 0, 3][: planes.shape[2]]].astype(np.int64))


def _rounded(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    return ((values + 128) // 257).astype(np.uint8)
