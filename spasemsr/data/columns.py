"""The record's schema: which members a column holds, their dtype and shape, and their bytes.

A member's bytes are a function of its value (`encode`), and nothing is believed on the way back (`decode`): PNG and npy
headers are checked against the schema before any pixel or array is made, JSON knows no NaN, and there is no pickle.
A template with `{k}` is stored once per degradation variant: "lr.{k}.png" has the base name "lr.png" and becomes
"lr.0.png", "lr.1.png" in the tar.
"""

import io
import json
import math
import re
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt

from spasemsr.data.patches import Split
from spasemsr.hashing import canonical_json
from spasemsr.pixels import png_bytes

ALL_SPLITS: tuple[Split, ...] = get_args(Split)
EVALUATION_SPLITS: tuple[Split, ...] = tuple(split for split in ALL_SPLITS if split != "train")
MAX_OBJECTS = 255  # masks.png numbers objects from 1 in eight bits
MAX_TEXT = 4096
_MAX_PIXELS = 100_000_000
_LIMITS = {"png": 1 << 28, "npy": 1 << 26, "json": 1 << 20}
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([^']{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \((\d{1,9},(?: \d{1,9}(?:, \d{1,9})*)?)\), \} *\n"
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Member:
    """One file of a sample; arrays state dtype and shape (None: any size), JSON a check that raises ValueError."""

    template: str
    shape: tuple[int | None, ...] = ()
    dtype: str = "uint8"
    check: Callable[[Any], None] | None = None

    @property
    def kind(self) -> str:
        """`png`, `npy` or `json`: the ending of the name."""
        return self.template.rpartition(".")[2]

    @property
    def indexed(self) -> bool:
        """Whether there is one per degradation variant."""
        return "{k}" in self.template

    @property
    def base(self) -> str:
        """The name without the variant: what workers give and take."""
        return self.template.replace(".{k}", "")

    @property
    def stem(self) -> str:
        """The name of the content: "sam" of "sam.npy"."""
        return self.base.rpartition(".")[0]

    @property
    def max_bytes(self) -> int:
        """The largest size a tar may state for it."""
        return _LIMITS[self.kind]

    def name(self, variant: int | None) -> str:
        """The member's name in a tar, after the key; `{k}` is replaced by the variant."""
        return self.template.replace("{k}", str(variant))

    def encode(self, value: Any) -> bytes:
        """Value -> bytes, the same on every call. Raises ValueError where the value is not what the schema states."""
        if self.kind == "json":
            data = canonical_json(value).encode()
            self._check_json(value)
        else:
            self._check_array(value)
            data = png_bytes(value) if self.kind == "png" else _encode_npy(value)
        if len(data) > self.max_bytes:
            raise ValueError(f"{self.base}: {len(data)} bytes are over the limit of {self.max_bytes}")
        return data

    def decode(self, data: bytes) -> Any:
        """Bytes -> value; arrays may be read-only. Raises ValueError where the bytes are not what the schema states."""
        if self.kind == "json":
            value = _decode_json(self.base, data)
            self._check_json(value)
            return value
        value = _decode_png(self.base, data) if self.kind == "png" else self._decode_npy(data)
        self._check_array(value)
        return value

    def _check_json(self, value: Any) -> None:
        if self.check is not None:
            self.check(value)

    def _check_array(self, value: Any) -> None:
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{self.base}: expected an array, got {type(value).__name__}")
        if value.dtype != np.dtype(self.dtype):
            raise ValueError(f"{self.base}: expected dtype {self.dtype}, got {value.dtype}")
        self._check_shape(value.shape)
        if value.dtype.kind == "f" and not _all_finite(value):
            raise ValueError(f"{self.base}: holds NaN or infinity")

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        fits = len(shape) == len(self.shape) and all(
            size > 0 and wanted in (None, size) for size, wanted in zip(shape, self.shape, strict=True)
        )
        if not fits:
            wanted = "(" + ", ".join("any" if size is None else str(size) for size in self.shape) + ")"
            raise ValueError(f"{self.base}: expected shape {wanted}, got {shape}")

    def _decode_npy(self, data: bytes) -> npt.NDArray[Any]:
        """A read-only array over `data`, after its header has been compared with the schema, character by character."""
        start = 10 + int.from_bytes(data[8:10], "little")
        header = _NPY_HEADER.fullmatch(data, 10, start) if data.startswith(_NPY_MAGIC) else None
        if header is None:
            raise ValueError(f"{self.base}: not an npy array of this project")
        descr, order, sizes = (text.decode() for text in header.groups())
        dtype = np.dtype(self.dtype)
        if descr != dtype.str or order != "False":
            kind = "pickled objects" if descr == "|O" else f"dtype {descr}"
            raise ValueError(f"{self.base}: refused {kind}, expected dtype {dtype.str} in C order")
        shape = tuple(int(size) for size in sizes.split(",") if size)
        self._check_shape(shape)
        if len(data) - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{self.base}: {len(data)} bytes do not hold shape {shape} of {dtype}")
        return np.frombuffer(data, dtype, offset=start).reshape(shape)


@dataclass(frozen=True)
class Column:
    """One folder of tars; `version` is its entry of VERSIONS, or of a method's own file."""

    name: str
    version: int
    stage: str
    members: tuple[Member, ...]
    splits: tuple[Split, ...] = ALL_SPLITS

    def member(self, base: str) -> Member:
        """The member of this base name. Raises KeyError."""
        for member in self.members:
            if member.base == base:
                return member
        raise KeyError(f"column {self.name!r} has no member {base!r}")

    def members_of(self, variant: int | None) -> tuple[Member, ...]:
        """What one unit of work makes: the members with `{k}` for a variant, those without it for None."""
        return tuple(member for member in self.members if member.indexed == (variant is not None))

    @property
    def remedy(self) -> str:
        """What to run when this column is missing, stale or damaged."""
        return f"Run: dvc repro {self.stage}"


def _decode_png(name: str, data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB or (H, W); size, depth and colour type are judged from the header, before decoding."""
    if len(data) < 33 or data[:8] != _PNG_SIGNATURE or data[8:16] != b"\0\0\0\rIHDR":
        raise ValueError(f"{name}: not a PNG file")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if depth != 8 or colour not in (0, 2):
        raise ValueError(f"{name}: expected 8-bit gray or RGB, got bit depth {depth} and colour type {colour}")
    if not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"{name}: states {width}x{height} pixels, the limit is {_MAX_PIXELS}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (height, width):
        raise ValueError(f"{name}: a truncated or damaged PNG file")
    if image.ndim == 2 and colour == 0:
        return image
    if image.ndim != 3 or image.shape[2] != 3:  # a transparency chunk adds a channel that the schema does not have
        raise ValueError(f"{name}: decodes to shape {image.shape}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _encode_npy(value: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(value), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _all_finite(value: npt.NDArray[Any]) -> bool:
    if value.dtype == np.float16:  # four times faster than isfinite: all exponent bits set means infinity or NaN
        return not bool((np.bitwise_and(value.view(np.uint16), 0x7C00) == 0x7C00).any())
    return bool(np.isfinite(value).all())


def _decode_json(name: str, data: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"holds {constant}")

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not JSON of this project: {error}") from None


def _check_keys(name: str, value: Any, *keys: str) -> None:
    if not isinstance(value, dict) or set(value) != set(keys):
        raise ValueError(f"{name}: expected an object with the keys {', '.join(keys)}")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"{name}: expected text of at most {MAX_TEXT} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError(f"{name}: text of one line without control characters, got {value[:80]!r}")


def _check_numbers(name: str, values: Any) -> None:
    """Numbers in [0, 1]."""
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise ValueError(f"{name}: expected a list of numbers")
    if not all(0.0 <= v <= 1.0 for v in values):
        raise ValueError(f"{name}: expected numbers in [0, 1], got {values}")


def _check_objects(value: Any) -> None:
    """{"tags": [N], "boxes": [N, 4] x0 y0 x1 y1 in [0, 1], "scores": [N], "source"}, best score first."""
    _check_keys("objects.json", value, "tags", "boxes", "scores", "source")
    tags, boxes, scores = value["tags"], value["boxes"], value["scores"]
    if not all(isinstance(part, list) for part in (tags, boxes, scores)):
        raise ValueError("objects.json: tags, boxes and scores must be lists")
    if not len(tags) == len(boxes) == len(scores) <= MAX_OBJECTS:
        raise ValueError(f"objects.json: {len(tags)} tags, {len(boxes)} boxes, {len(scores)} scores")
    for tag in [*tags, value["source"]]:
        _check_text("objects.json", tag)
    for box in boxes:
        _check_numbers("objects.json boxes", box)
        if len(box) != 4 or box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(f"objects.json: expected a box x0 < x1, y0 < y1, got {box}")
    _check_numbers("objects.json scores", scores)
    if scores != sorted(scores, reverse=True):
        raise ValueError(f"objects.json: scores must fall, got {scores}")


def _check_caption(value: Any) -> None:
    """{"text", "prompt"}: how the image is degraded, in words, and the question that these answer."""
    _check_keys("caption.json", value, "text", "prompt")
    _check_text("caption.json", value["text"])
    _check_text("caption.json", value["prompt"])


def _check_trace(value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError("degradation.json: expected an object of drawn parameters")


# By column, raised whenever its stage makes other bytes of the same inputs: part of every cache key, and watched by
# `dvc.yaml`. What a backend alone changes is a matter of the VERSIONS in its role's `spec.py`.
VERSIONS = {
    "hr": 1,
    "lr": 1,
    "restored": 1,
    "objects": 1,
    "caption": 1,
    "latents": 1,
}
HR = Column("hr", VERSIONS["hr"], "ingest", (Member("hr.png", (None, None, 3)),))
LR = Column(
    "lr",
    VERSIONS["lr"],
    "synthesize",
    (Member("lr.{k}.png", (None, None, 3)), Member("degradation.{k}.json", check=_check_trace)),
)
RESTORED = Column("restored", VERSIONS["restored"], "restore", (Member("restored.{k}.png", (None, None, 3)),))
OBJECTS = Column(
    "objects",
    VERSIONS["objects"],
    "ground",
    (Member("objects.json", check=_check_objects), Member("masks.png", (None, None))),
)
CAPTION = Column("caption", VERSIONS["caption"], "caption", (Member("caption.{k}.json", check=_check_caption),))
LATENTS = Column(
    "latents", VERSIONS["latents"], "latents", (Member("moments.npy", (None, None, None), "float16"),), ("train",)
)
COLUMNS = {column.name: column for column in (HR, LR, RESTORED, OBJECTS, CAPTION, LATENTS)}  # common to all methods


def common_columns(read: Collection[str]) -> dict[str, Column]:
    """The common columns by name, for methods that train on columns of these names.

    `restored` is made of training patches where a method trains on it; else of evaluation splits alone, where boxes are
    found on it.
    """
    if RESTORED.name in read:
        return COLUMNS
    return {**COLUMNS, RESTORED.name: replace(RESTORED, splits=EVALUATION_SPLITS)}
