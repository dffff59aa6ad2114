"""One untrusted image file -> a loaded Pillow image, or a RejectedSample that says why not.

Byte and pixel limits are checked before any pixel is decoded. Whatever a decoder raises on a damaged file becomes a
reason: decoders raise almost any exception there is, and one file must never end a run over many.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from spasemsr.errors import RejectedSample
from spasemsr.images.formats import READ, formats_for, stated_format
from spasemsr.images.jpeg_end import with_end
from spasemsr.images.tiff_samples import refuse_misread, unread

_START = 32  # bytes that tell formats apart


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Everything that a decoder raises inside becomes RejectedSample: the one boundary around untrusted bytes.

    Pillow warns where it guesses (bombs, broken EXIF); its warnings are not shown, header and pixels decide.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except RejectedSample:
            raise
        except Image.DecompressionBombError as error:
            raise RejectedSample("too_large", _one_line(error)) from None
        except MemoryError:
            raise RejectedSample("needs_memory", "decoding it takes more memory than there is") from None
        except Exception as error:
            text = _one_line(error)  # a file that ends too early is the common case and has a name of its own
            raise RejectedSample("truncated" if "truncated" in text.lower() else "corrupt", text) from None


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The loaded Pillow image of a file's bytes, in whatever mode it has.

    Raises RejectedSample with reason `unsupported_format`, `unsupported_mode`, `floats`, `needs_package`, `too_large`,
    `truncated`, `corrupt` or `needs_memory`.
    """
    with decoding():
        try:
            image = Image.open(io.BytesIO(data), formats=formats_for(data[:_START]))
        except UnidentifiedImageError:
            raise _unidentified(data) from None
        width, height = image.size
        if width * height > max_pixels:
            raise RejectedSample("too_large", f"{width}x{height} is over the limit of {max_pixels} pixels")
        refuse_misread(image)
        try:
            image.load()
        except OSError:
            if (whole := _ended(data)) is None:
                raise
            image = Image.open(io.BytesIO(whole), formats=formats_for(data[:_START]))
            image.load()
        return image


def _ended(data: bytes) -> bytes | None:
    """The file of a JPEG that lacks nothing but its end; None for any other."""
    with contextlib.suppress(Exception):  # of a damaged file the first error is said
        return with_end(data) if stated_format(data) == "JPEG" else None
    return None


def header(file: Path | bytes) -> tuple[str, tuple[int, int]] | None:
    """Format, and width and height before orientation, as the header states them; None for what cannot be read."""
    with contextlib.suppress(RejectedSample), decoding(), contextlib.ExitStack() as opened:
        if isinstance(file, Path) and not file.is_file():
            return None  # a pipe would be waited for
        source = io.BytesIO(file) if isinstance(file, bytes) else opened.enter_context(file.open("rb"))
        formats = formats_for(source.read(_START))
        source.seek(0)
        image = opened.enter_context(Image.open(source, formats=formats))
        return format_of(image), image.size
    return None


def format_of(image: Image.Image) -> str:
    """JPEG, PNG, TIFF, WEBP, BMP, AVIF, HEIF or JXL; "" for an image that was no file. MPO, several JPEGs, is JPEG."""
    return {"MPO": "JPEG", "DIB": "BMP"}.get(image.format or "", image.format or "")


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The bytes of one untrusted file; rejects `empty`, `too_large` (in bytes) and `unreadable`."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise RejectedSample("empty", "the file has no bytes")
        if size > max_bytes:
            raise RejectedSample("too_large", f"{size} bytes is over the limit of {max_bytes}")
        return path.read_bytes()
    except FileNotFoundError:
        dangling = path.is_symlink()
        raise RejectedSample("unreadable", "a link to nothing" if dangling else "it does not exist") from None
    except OSError as error:
        raise RejectedSample("unreadable", error.strerror or type(error).__name__) from None


def has_more_frames(image: Image.Image) -> bool:
    """Whether frames or pages follow the first; a chain of pages that is broken counts as more."""
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # the first is whole, and only it is used
        return True


def _unidentified(data: bytes) -> RejectedSample:
    """Tell an image of another format from a file that only pretends to be one of ours."""
    if kind := unread(data):
        return kind
    if name := stated_format(data):
        return RejectedSample("corrupt", f"begins like a {name} file but its header cannot be read")
    return RejectedSample("unsupported_format", f"not {READ}; convert it to one of them")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
