"""Which formats are read, how a file is told to be one of them, and which package reads what Pillow alone does not.

A file is known by its first bytes, not by its name. HEIC and JPEG XL have decoders in packages of their own, which are
loaded when the first such file is met; where one is not installed, the file is refused with its name.
"""

import importlib
from dataclasses import dataclass

from PIL import (  # the plugins by name: Image.open knows a format only once its plugin is imported
    AvifImagePlugin,
    BmpImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from spasemsr.errors import RejectedSample

READ = "JPEG, PNG, WebP, TIFF, BMP, AVIF, HEIC or JPEG XL"  # for people
SUFFIXES = frozenset(
    """.jpg .jpeg .jpe .jfif .mpo .png .webp .tif .tiff .bmp .dib .avif .heic .heif .hif .jxl""".split()
)
# Looked at and rejected with a reason, so that a person learns why their file is not used; other files are ignored.
FOREIGN_SUFFIXES = frozenset(""".gif .ico .jp2 .pgm .ppm .pbm .pnm .tga .psd .svg .raw .dng .cr2 .nef .arw""".split())
_PILLOW = (  # a JPEG with further pictures (MPO) is opened by the JPEG plugin
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
)


@dataclass(frozen=True)
class Decoder:
    """A package that reads a format: what to import of it, and what Pillow calls the format then."""

    package: str
    module: str
    form: str
    register: str = ""  # a function of the module that tells Pillow of it; "" where the import does


HEIC = Decoder("pillow-heif", "pillow_heif", "HEIF", "register_heif_opener")
JPEG_XL = Decoder("pillow-jxl-plugin", "pillow_jxl", "JXL")
_HEIC_BRANDS = frozenset([b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
_AVIF_BRANDS = frozenset([b"avif", b"avis"])


def formats_for(start: bytes) -> tuple[str, ...]:
    """What Pillow may take a file for that begins with these bytes (32 are enough).

    Raises RejectedSample `needs_package` where its decoder is not installed.
    """
    name, decoder = _beyond_pillow(start)
    if decoder is None:
        return _PILLOW
    try:
        module = importlib.import_module(decoder.module)
        if decoder.register:
            getattr(module, decoder.register)()
    except Exception:  # absent, or for another Pillow
        what = f"{name} is read by the package {decoder.package}: pip install {decoder.package}"
        raise RejectedSample("needs_package", what) from None
    return (decoder.form,)


def stated_format(data: bytes) -> str:
    """The format that a file's first bytes claim, "" for none of those that have a sure mark."""
    marks = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in _AVIF_BRANDS:
        return "AVIF"
    return next((name for mark, name in marks.items() if data.startswith(mark)), "")


def _beyond_pillow(start: bytes) -> tuple[str, Decoder | None]:
    """The name of a format that a package of its own reads, and that package."""
    if start.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JPEG XL", JPEG_XL
    if start[4:8] == b"ftyp":
        compatible = {start[place : place + 4] for place in range(8, len(start) - 3, 4)}
        if compatible & _AVIF_BRANDS:
            if not features.check("avif"):
                raise RejectedSample("needs_package", "this Pillow reads no AVIF: pip install 'pillow>=11.3'")
        elif compatible & _HEIC_BRANDS:
            return "HEIC", HEIC
    return "", None
