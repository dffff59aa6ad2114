"""Small files that people have and no library writes: damaged metadata, stated colour, transparent levels, mutants."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF")
SHORT, ASCII, LONG, RATIONAL, SIGNED_RATIONAL, UNDEFINED = 3, 2, 4, 5, 10, 7
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(width: int = 20, height: int = 16, seed: int = 0) -> Image.Image:
    """Smooth colours, another for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(main: list[tuple], inner: list[tuple] = (), order: str = "<") -> bytes:
    """An EXIF block of (tag, type, count, bytes) entries as given, right or wrong; `inner` is its Exif part."""
    entries = [*main, (0x8769, LONG, 1, None)] if inner else list(main)
    start = 8 + 6 + 12 * len(entries)
    parts, values = [], b""
    for tag, kind, count, value in sorted(entries, key=lambda entry: entry[0]):
        if value is None:
            value = b"\0\0\0\0"
            pointer_at = len(parts)
        if len(value) > 4:
            field, values = struct.pack(order + "I", start + len(values)), values + value + b"\0" * (len(value) % 2)
        else:
            field = value.ljust(4, b"\0")
        parts.append([tag, kind, count, field])
    if inner:
        place = start + len(values)
        parts[pointer_at][3] = struct.pack(order + "I", place)
        rest, tail = b"", place + 6 + 12 * len(inner)
        head = struct.pack(order + "H", len(inner))
        for tag, kind, count, value in inner:
            field = value.ljust(4, b"\0")
            if len(value) > 4:
                field, rest = struct.pack(order + "I", tail + len(rest)), rest + value + b"\0" * (len(value) % 2)
            head += struct.pack(order + "HHI", tag, kind, count) + field
        values += head + bytes(4) + rest
    packed = b"".join(struct.pack(order + "HHI", *part[:3]) + part[3] for part in parts)
    magic = b"II" if order == "<" else b"MM"
    return magic + struct.pack(order + "HIH", 42, 8, len(entries)) + packed + bytes(4) + values


def with_exif(block: bytes, form: str = "JPEG", seed: int = 0) -> bytes:
    """A picture whose EXIF is this block, byte for byte."""
    return encoded(picture(seed=seed), form, exif=b"Exif\0\0" + block)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG: length, four letters, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, colour_type: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of packed rows (H, bytes) uint8 with further chunks before its pixels."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    width, height = rows.shape[1] * 8 // (depth * samples), rows.shape[0]
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    body = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)), *chunks]
    body += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in body)


def tiff(samples: np.ndarray, photometric: int, *more: tuple, apart: bool = False) -> bytes:
    """A TIFF of (H, W, C) samples of any type with further tags; `apart` stores one channel after the other."""
    height, width, channels = samples.shape
    planes = [samples[..., c] for c in range(channels)] if apart else [samples]
    parts = [np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder("<")).tobytes() for plane in planes]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]

    def shorts(*values: int) -> tuple[int, int, bytes]:
        return SHORT, len(values), struct.pack(f"<{len(values)}H", *values)

    def longs(*values: int) -> tuple[int, int, bytes]:
        return LONG, len(values), struct.pack(f"<{len(values)}I", *values)

    def directory(start: int) -> bytes:
        places = [start + sum(map(len, parts[:index])) for index in range(len(parts))]
        tags = {256: shorts(width), 257: shorts(height), 258: shorts(*[8 * samples.itemsize] * channels)}
        tags |= {259: shorts(1), 262: shorts(photometric), 273: longs(*places), 277: shorts(channels)}
        tags |= {278: shorts(height), 279: longs(*map(len, parts)), 284: shorts(2 if apart else 1)}
        return exif([*((tag, *value) for tag, value in tags.items()), (339, *shorts(*[kind] * channels)), *more])

    return directory(len(directory(0))) + b"".join(parts)


def seeds_of_every_format() -> list[tuple[str, bytes]]:
    """One small file with metadata of every format and mode that is read: (suffix, bytes)."""
    block = exif([(0x0112, SHORT, 1, b"\6\0"), (0x010F, ASCII, 6, b"Maker\0")], [(0xA002, SHORT, 1, b"\x14\0")])
    extra: dict[str, object] = {"exif": b"Exif\0\0" + block, "icc_profile": ICC}
    rgb, found = picture(), list[tuple[str, bytes]]()
    for form, suffix in zip(FORMATS, (".jpg", ".png", ".webp", ".tif"), strict=True):
        found.append((suffix, encoded(rgb, form, **extra)))
    for mode in ("L", "1", "P", "LA", "RGBA"):
        found.append((".png", encoded(rgb.convert(mode), "PNG")))
    deep = np.arange(16 * 40, dtype=np.uint8).reshape(16, 40)
    found.append((".png", png(16, 0, deep, (b"tRNS", b"\0\1"))))
    found.append((".png", png(2, 0, deep, (b"gAMA", struct.pack(">I", 100_000)), (b"tRNS", b"\0\3"))))
    found.append((".png", png(16, 2, np.tile(deep, (1, 3)))))
    found += [(".jpg", encoded(rgb.convert("CMYK"), "JPEG")), (".jpg", encoded(rgb.convert("L"), "JPEG"))]
    found += [(".tif", encoded(rgb.convert("CMYK"), "TIFF")), (".tif", encoded(rgb, "TIFF", compression="tiff_lzw"))]
    found += [
        (".bmp", encoded(rgb, "BMP")),
        (".bmp", encoded(rgb.convert("P"), "BMP")),
        (".avif", encoded(rgb, "AVIF")),
    ]
    pages = io.BytesIO()
    rgb.save(pages, "TIFF", save_all=True, append_images=[picture(seed=1)])
    found.append((".tif", pages.getvalue()))
    return found


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Files with bytes changed, cut out, put in and cut off: (suffix, bytes), the same for the same seed."""
    rng, seeds = np.random.default_rng(seed), seeds_of_every_format()
    for index in range(count):
        suffix, whole = seeds[index % len(seeds)]
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            # headers and directories are at the front; most of what breaks decoders is there
            place = int(rng.integers(0, min(len(data), 600 if rng.random() < 0.7 else len(data))))
            match int(rng.integers(0, 6)):
                case 0 | 1 | 2:
                    data[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(0, 256)]))
                case 3:
                    data[place : place + 4] = rng.integers(0, 256, 4).astype(np.uint8).tobytes()
                case 4:
                    del data[place : place + int(rng.integers(1, 9))]
                case _:
                    data[place:place] = bytes(data[place : place + int(rng.integers(1, 9))])
            if not data:
                data = bytearray(b"\0")
        if rng.random() < 0.1:
            data = data[: int(rng.integers(1, len(data) + 1))]
        yield suffix, bytes(data)
