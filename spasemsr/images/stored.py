"""A picture as it is stored -> the 8-bit RGB that is scored, or a UserError that names the file.

Pixels are taken as every published evaluation takes them: no colour management. Defined treatments, each recorded by
name beside the score:

| picture | becomes |
|---|---|
| 9 to 16 bits a channel | 8 bits, full range to full range, rounded (`16_bit`) |
| alpha that is opaque everywhere | dropped (`opaque_alpha`) |
| gray, 1-bit, palette | RGB (`gray`, `one_bit`, `palette`) |
| JPEG, lossy WebP, AVIF, HEIC, JPEG XL | scored as decoded (`jpeg`, `webp`, `avif`, `heif`, `jxl`) |
| EXIF or XMP orientation | applied (`exif_rotated`) |
| ICC profile; gAMA, cHRM or cICP that mean another colour than sRGB | ignored (`icc_ignored`, `gama_ignored`, ...) |
| one colour all over | scored (`constant`); a metric that has no value there says so |

Refused by name: transparency, floats and NaN, CMYK, truncated and unreadable files, formats that `ingest` refuses.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from spasemsr.errors import RejectedSample, UserError
from spasemsr.images import depth, metadata
from spasemsr.images.flat import Decoded, upright
from spasemsr.images.names import shown
from spasemsr.images.opening import decoding, format_of, open_image, read_bytes
from spasemsr.pixels import to_eight_bits

MAX_BYTES, MAX_PIXELS = 500_000_000, 200_000_000
_NAMES = {"L": "gray", "1": "one_bit", "P": "palette"}


def read_scored(path: Path) -> Decoded:
    """One picture as (H, W, 3) uint8 RGB and the treatments it received; UserError names the file and what is wrong."""
    try:
        data = read_bytes(path, MAX_BYTES)
        with decoding():
            return _treat(data, open_image(data, MAX_PIXELS))
    except RejectedSample as rejected:
        raise UserError(f"{shown(path)} cannot be scored, {rejected}.", "Write it again as 8-bit RGB PNG.") from None


def _treat(data: bytes, image: Image.Image) -> Decoded:
    """A loaded picture -> its stored pixels as 8-bit RGB. Raises RejectedSample."""
    notes = ["icc_ignored"] if image.info.get("icc_profile") else []
    if not notes:
        notes += [f"{name}_ignored" for name in metadata.other_colour(metadata.colour_chunks(data))]
    form = format_of(image)
    if form in ("JPEG", "AVIF", "HEIF", "JXL") or (form == "WEBP" and b"VP8L" not in data[:64]):
        notes.append(form.lower())
    orientation = metadata.orientation_of(image, data)
    if orientation > 1:
        notes.append("exif_rotated")
    deep = depth.deep_planes(data, image)
    hidden = depth.transparent_gray(data, image)
    if deep is not None:
        notes.append("16_bit")
        planes = to_eight_bits(deep[0])
    elif image.mode == "F":
        values = np.asarray(image)
        held = "floats with NaN" if not np.isfinite(values).all() else "floats"
        raise RejectedSample("floats", f"it holds {held}")
    elif hidden is not None:
        notes.append(_NAMES[image.mode])
        planes = np.dstack([np.asarray(image.convert("L")), np.where(hidden, 0, 255).astype(np.uint8)])
    elif image.mode == "P" or "transparency" in image.info:
        if image.mode in _NAMES:
            notes.append(_NAMES[image.mode])
        planes = np.asarray(image.convert("RGBA"))
    elif image.mode in ("RGB", "RGBA", "L", "LA", "1"):
        if image.mode in _NAMES:
            notes.append(_NAMES[image.mode])
        planes = np.asarray(image.convert("L") if image.mode == "1" else image)
    else:
        raise RejectedSample("unsupported_mode", f"its colour mode is {image.mode}")
    planes = planes[..., None] if planes.ndim == 2 else planes
    if planes.shape[2] in (2, 4):
        if planes[..., -1].min() < 255:
            raise RejectedSample("transparent", "it has transparent pixels, whose colour is anybody's guess")
        if image.mode != "P":
            notes.append("opaque_alpha")
        planes = planes[..., :-1]
    pixels = np.ascontiguousarray(
        upright(np.broadcast_to(planes, (*planes.shape[:2], 3)), metadata.left_to_turn(image, orientation))
    )
    if (pixels == pixels[0, 0]).all():
        notes.append("constant")
    return Decoded(pixels, tuple(notes))
