"""What a TIFF's tags say of its samples: for files that Pillow does not open, and those whose pixels it gets wrong."""

import contextlib
import io
from collections.abc import Sequence

from PIL import Image, TiffImagePlugin

from spasemsr.errors import RejectedSample

BITS, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA, FORMAT = 258, 262, 277, 284, 338, 339
WHITE_IS_ZERO, APART, PREMULTIPLIED, UNSIGNED, SIGNED, FLOATS = 0, 2, 1, 1, 2, 3
_REMEDY = "write it again with gray or RGB of 8 or 16 bits, channels interleaved"


def tag(image: Image.Image, number: int, otherwise: Sequence[int] = ()) -> Sequence[int]:
    """A tag's numbers; a damaged one, and one that is not there, counts as `otherwise`."""
    return _numbers(getattr(image, "tag_v2", {}), number, otherwise)


def refuse_misread(image: Image.Image) -> None:
    """Raise RejectedSample `unsupported_mode` for a TIFF of which every reader here would make other pixels.

    Pillow takes each byte of 16-bit channels that are stored one after the other for a pixel, OpenCV takes them for
    interleaved ones.
    """
    if (
        image.format == "TIFF"
        and tag(image, PLANAR) == (APART,)
        and len(bits := tag(image, BITS)) > 1
        and max(bits) > 8
    ):
        raise RejectedSample("unsupported_mode", f"its 16-bit channels are stored one after the other; {_REMEDY}")


def unread(data: bytes) -> RejectedSample | None:
    """Why a whole TIFF is of a kind that Pillow does not open; None for other files, and where its tags do not say."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return None
    with contextlib.suppress(Exception):  # decoders raise anything; then it is called damaged
        tags, file = TiffImagePlugin.ImageFileDirectory_v2(data[:8]), io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        bits, formats = _numbers(tags, BITS, (1,)), _numbers(tags, FORMAT, (UNSIGNED,))
        samples = _numbers(tags, SAMPLES, (1,))[0]
        if FLOATS in formats:
            return RejectedSample("floats", f"it holds floats; {_REMEDY}")
        if SIGNED in formats:
            return RejectedSample("unsupported_mode", f"it holds signed numbers; {_REMEDY}")
        if max(bits) > 16 or samples > 4 or samples == 2:
            held = f"{samples} channel{'s' * (samples > 1)} of {max(bits)} bits"
            return RejectedSample("unsupported_mode", f"it holds {held}; {_REMEDY}")
    return None


def _numbers(tags: object, number: int, otherwise: Sequence[int]) -> Sequence[int]:
    try:
        value = tags.get(number, otherwise)  # type: ignore[attr-defined]
        return tuple(int(part) for part in (value if isinstance(value, tuple) else (value,)))
    except Exception:
        return otherwise
