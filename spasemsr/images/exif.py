"""EXIF as bytes: what describes a photograph is copied tag by tag, unread; a tag that is damaged costs that tag alone.

An EXIF block is a small TIFF file: a byte order, a directory of entries (tag, type, count, value) and directories that
it points to. Values are copied as they are, so text in UTF-8, impossible fractions and maker notes come out as they
went in. Only orientation and the picture's size are ever looked at.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NUMBERS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}  # bytes of one number in a value
_ASCII, _SHORT, _LONG = 2, 3, 4
ORIENTATION, _EXIF, _GPS, _INTEROPERABILITY = 0x0112, 0x8769, 0x8825, 0xA005
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
# What describes the photograph: texts, maker, dates, resolution, rating. What describes the file (strips, compression,
# thumbnail) is the writer's business.
_DESCRIPTIVE = frozenset(
    [270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, 18246, 18249, *range(40091, 40096)],
)
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))([0-9])')
_MAX_ENTRIES = 4096
Order = Literal["<", ">"]


@dataclass(frozen=True)
class Entry:
    """One tag's type, count and value; the value is in its block's byte order."""

    kind: int
    count: int
    value: bytes


@dataclass
class Block:
    """A parsed EXIF block, or the first directory of a TIFF file; `damaged` entries are left out."""

    order: Order
    main: dict[int, Entry] = field(default_factory=dict)
    exif: dict[int, Entry] = field(default_factory=dict)
    gps: dict[int, Entry] = field(default_factory=dict)
    damaged: int = 0

    @property
    def orientation(self) -> int:
        """1 to 8; 1 where none is stated. Stated as text, or twice, it counts too."""
        entry = self.main.get(ORIENTATION)
        if entry is None:
            return 1
        if entry.kind == _ASCII:
            text = entry.value[:1]
            number = int(text) if text.isdigit() else 1
        elif entry.kind in (1, _SHORT, _LONG):
            number = int.from_bytes(entry.value[: _SIZES[entry.kind]], "little" if self.order == "<" else "big")
        else:
            number = 1
        return number if number in range(1, 9) else 1

    def descriptive(self) -> "Block":
        """What describes the photograph, with no orientation: the pixels are upright where this is written."""
        inner = {tag: entry for tag, entry in self.exif.items() if tag != _INTEROPERABILITY}
        main = {tag: entry for tag, entry in self.main.items() if tag in _DESCRIPTIVE}
        return Block(self.order, main, inner, dict(self.gps), self.damaged)

    def __bool__(self) -> bool:
        return bool(self.main or self.exif or self.gps)


def parse(data: bytes) -> Block | None:
    """An EXIF block (its leading "Exif" may be there) or a whole TIFF file; None where not even its header is one."""
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    if data[:2] not in (b"II", b"MM") or len(data) < 8:
        return None
    order: Order = "<" if data[:2] == b"II" else ">"
    magic = struct.unpack(order + "H", data[2:4])[0]
    if magic not in (42, 43):
        return None
    big = magic == 43
    if big and len(data) < 16:
        return None
    block = Block(order)
    first = struct.unpack(order + ("Q" if big else "I"), data[8:16] if big else data[4:8])[0]
    for tag, entry in _directory(data, first, order, big, block):
        block.main[tag] = entry
    for pointer, folder in ((_EXIF, block.exif), (_GPS, block.gps)):
        found = block.main.pop(pointer, Entry(0, 0, b""))
        if found.kind not in (_LONG, 13, 16, 18):
            continue
        place = int.from_bytes(found.value[: _SIZES[found.kind]], "little" if order == "<" else "big")
        folder.update(_directory(data, place, order, big, block))
    return block


def _directory(data: bytes, place: int, order: Order, big: bool, block: Block) -> Iterator[tuple[int, Entry]]:
    """The entries of one directory that lie within the data; the others are counted in the block."""
    head, size, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    start = place + struct.calcsize(head)
    if start > len(data):
        block.damaged += 1
        return
    stated = struct.unpack(order + head, data[place:start])[0]
    held = min(stated, (len(data) - start) // size, _MAX_ENTRIES)
    block.damaged += held < stated
    for index in range(held):
        raw = data[start + index * size : start + (index + 1) * size]
        tag, kind, count = struct.unpack(order + ("HHQ" if big else "HHI"), raw[:-inline])
        length = count * _SIZES.get(kind, 0)
        if length > inline:
            offset = struct.unpack(order + ("Q" if big else "I"), raw[-inline:])[0]
            value = data[offset : offset + length]
        else:
            value = raw[-inline:][:length]
        if not length or len(value) < length:
            block.damaged += 1
        else:
            yield tag, Entry(kind, count, value)


def serialise(block: Block) -> bytes:
    """The block as a small TIFF file in its own byte order, without the leading "Exif"."""
    main = dict(block.main)
    for pointer, inner in ((_EXIF, block.exif), (_GPS, block.gps)):
        if inner:
            main[pointer] = Entry(_LONG, 1, bytes(4))
    start = 8 + _length(main)
    for pointer, inner in ((_EXIF, block.exif), (_GPS, block.gps)):
        if inner:
            main[pointer] = Entry(_LONG, 1, struct.pack(block.order + "I", start))
            start += _length(inner)
    head = (b"II" if block.order == "<" else b"MM") + struct.pack(block.order + "HI", 42, 8)
    place, parts = 8, [head]
    for folder in (main, block.exif, block.gps):
        if folder:
            parts.append(_written(folder, place, block.order))
            place += len(parts[-1])
    return b"".join(parts)


def _length(folder: dict[int, Entry]) -> int:
    return 6 + sum(12 + (_even(len(entry.value)) if len(entry.value) > 4 else 0) for entry in folder.values())


def _written(folder: dict[int, Entry], place: int, order: Order) -> bytes:
    """A directory that will lie at `place`, its longer values behind it."""
    entries, values, start = [], [], place + 6 + 12 * len(folder)
    for tag, entry in sorted(folder.items()):
        field_ = entry.value.ljust(4, b"\0")
        if len(entry.value) > 4:
            field_ = struct.pack(order + "I", start)
            values.append(entry.value.ljust(_even(len(entry.value)), b"\0"))
            start += len(values[-1])
        entries.append(struct.pack(order + "HHI", tag, entry.kind, entry.count) + field_)
    return struct.pack(order + "H", len(folder)) + b"".join(entries) + bytes(4) + b"".join(values)


def _even(length: int) -> int:
    return length + length % 2


def resized(exif: bytes, width: int, height: int) -> bytes:
    """The block with the picture's new size in it, where it states one."""
    block = parse(exif)
    if block is None:
        return exif
    for tag, side in ((_PIXEL_WIDTH, width), (_PIXEL_HEIGHT, height)):
        if tag in block.exif:
            block.exif[tag] = Entry(_LONG, 1, struct.pack(block.order + "I", side))
    return serialise(block)


def within(exif: bytes, limit: int) -> tuple[bytes | None, bool]:
    """The block in at most `limit` bytes, its largest values (maker notes) left out first; and whether any were."""
    block = parse(exif)
    if block is None or len(exif) <= limit:
        return exif, False
    values = [(len(entry.value), tag, folder) for folder in (block.exif, block.main, block.gps)
              for tag, entry in folder.items()]  # fmt: skip
    for _, tag, folder in sorted(values, key=lambda value: value[:2], reverse=True):
        del folder[tag]
        if len(shorter := serialise(block)) <= limit:
            return (shorter if block else None), True
    return None, True


def turned(block: Block, order: Order) -> Block:
    """The block in another byte order, number by number; values of undefined type (maker notes) as they are."""
    if block.order == order:
        return block

    def turn(folder: dict[int, Entry]) -> dict[int, Entry]:
        return {tag: Entry(entry.kind, entry.count, _reversed(entry)) for tag, entry in folder.items()}

    return Block(order, turn(block.main), turn(block.exif), turn(block.gps), block.damaged)


def _reversed(entry: Entry) -> bytes:
    size = _NUMBERS.get(entry.kind, 1)
    return b"".join(entry.value[at : at + size][::-1] for at in range(0, len(entry.value), size))


def orientation_in_xmp(xmp: bytes) -> int:
    """The orientation an XMP packet states, 1 where it states none."""
    found = _XMP_ORIENTATION.search(xmp)
    number = int(found[2]) if found else 1
    return number if number in range(1, 9) else 1


def upright_xmp(xmp: bytes) -> bytes:
    """An XMP packet for pixels that have been turned upright."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
