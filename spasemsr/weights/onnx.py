"""What an ONNX file says about itself: the metadata of its model, without a package that reads the format.

The file is one message of protocol buffers (ModelProto of onnx.proto): a row of fields, each a number and a kind in one
varint, then its value. Metadata is field 14, a key in field 1 and a value in field 2; everything else is passed over.
"""

from collections.abc import Iterator
from pathlib import Path

from spasemsr.errors import UserError

_METADATA, _KEY, _VALUE = 14, 1, 2
_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5  # kinds of fields
_VARINT_BYTES = 10  # most that 64 bits take


def read_metadata(path: Path) -> dict[str, str]:
    """Every key and value of the model's metadata. Raises UserError for a file that is no whole message."""
    try:
        data = memoryview(path.read_bytes())
        entries = [dict(_fields(value)) for number, value in _fields(data) if number == _METADATA]
        return {str(entry[_KEY], "utf-8"): str(entry.get(_VALUE, b""), "utf-8") for entry in entries}
    except (ValueError, KeyError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path} is no whole ONNX file: {error}.", "Install its package again.") from None


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and value of each field of a message that holds bytes. Raises ValueError where it is no message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
            continue
        if kind == _COUNTED:
            length, at = _varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind} before byte {at}")
        if not number or at + length > len(data):
            raise ValueError(f"field {number} ends at byte {at + length} of {len(data)}")
        if kind == _COUNTED:
            yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a byte, 7 bits a byte and the lowest first, and the place after it."""
    value = 0
    for index in range(_VARINT_BYTES):
        if at + index >= len(data):
            break
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"a number without an end at byte {at}")
