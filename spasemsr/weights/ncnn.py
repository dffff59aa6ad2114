"""Reads an RRDBNet (ESRGAN, Real-ESRGAN) from ncnn's two files: `.param`, the layers as text, and `.bin`, the weights.

Nothing is guessed. The text must describe exactly an RRDBNet x4, every layer with its inputs and constants, since the
file names no tensor: the n-th convolution of the file is the n-th of the network. The weights must fill the `.bin` to
its last byte. What comes out are the tensors under the names of the original checkpoint, in float32.

A convolution in `.bin` is a flag (little-endian uint32), its weights (out, in, 3, 3) as the flag says, and a float32
bias: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spasemsr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_MAGIC = "7767517"
_HALF, _FLOATS = 0x01306B47, (0x0002C056, 0x00000000)
_WIDTH, _GROWTH = 64, 32  # of every published RRDBNet
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")
_REMEDY = "Fetch or install it again (spasemsr models list); other networks of ncnn are not read."

Params = dict[int, tuple[float, ...]]  # ncnn's numbered settings of a layer


@dataclass(frozen=True)
class Layer:
    """One layer: what it does, which earlier layers it reads (-1: the image), and its settings."""

    kind: str
    inputs: tuple[int, ...]
    params: Params


def read_rrdb(path: Path) -> dict[str, "Tensor"]:
    """The tensors of the RRDBNet in `path` (`.param`) and the `.bin` beside it.

    Raises UserError, naming file and first wrong layer, for another network, a damaged text, and weights that are cut
    short, too many, of an unknown kind or not finite.
    """
    layers = _read_layers(path)
    convolutions = sum(layer.kind == "Convolution" for layer in layers)
    blocks = (convolutions - 6) // 15
    expected = list(_rrdb(blocks))
    for index, (layer, (name, wanted)) in enumerate(zip(layers, expected, strict=False)):
        if layer != wanted:
            raise UserError(f"{path} is no RRDBNet x4: layer {index} is not its {name} ({wanted.kind}).", _REMEDY)
    if len(layers) != len(expected) or blocks < 1:
        what = f"{path} is no RRDBNet x4: it has {len(layers)} layers, not {len(expected)}."
        raise UserError(what, _REMEDY)
    named = [(name, layer.params) for name, layer in expected if layer.kind == "Convolution"]
    return _read_weights(path.with_suffix(".bin"), named)


def _read_layers(path: Path) -> list[Layer]:
    """The layers of a `.param`; `Split`, which only hands a value on, is resolved."""
    lines = [line.split() for line in _text(path).splitlines() if line.strip()]
    if len(lines) < 2 or lines[0] != [_MAGIC] or len(lines[1]) != 2 or not all(n.isdigit() for n in lines[1]):
        raise UserError(f"{path} is no text of ncnn: it does not begin with {_MAGIC} and two counts.", _REMEDY)
    if int(lines[1][0]) != len(lines) - 2:
        raise UserError(f"{path} is cut short: it has {len(lines) - 2} of {lines[1][0]} layers.", _REMEDY)
    made_by: dict[str, int] = {}  # name of a value -> the layer that makes it
    layers: list[Layer] = []
    for number, words in enumerate(lines[2:], start=3):
        try:
            kind, ins, outs = words[0], int(words[2]), int(words[3])
            sources, results = words[4 : 4 + ins], words[4 + ins : 4 + ins + outs]
            params = dict(_setting(word) for word in words[4 + ins + outs :])
            inputs = tuple(made_by[source] for source in sources)
            if len(results) != outs or not results or any(result in made_by for result in results):
                raise ValueError
        except (ValueError, IndexError, KeyError):
            raise UserError(f"{path}, line {number}: not a layer of ncnn.", _REMEDY) from None
        if kind == "Input":
            maker = -1
        elif kind == "Split":
            maker = inputs[0] if inputs else -1
        else:
            layers.append(Layer(kind, inputs, params))
            maker = len(layers) - 1
        made_by |= dict.fromkeys(results, maker)
    if len(made_by) != int(lines[1][1]):
        raise UserError(f"{path} names {len(made_by)} values and announces {lines[1][1]}.", _REMEDY)
    return layers


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no text of ncnn: {error}", _REMEDY) from None


def _setting(word: str) -> tuple[int, tuple[float, ...]]:
    """`key=value`, or `-23300-key=count,value,...` for a list. Raises ValueError."""
    key, values = word.split("=")
    numbers = values.split(",")
    if not all(_NUMBER.fullmatch(number) for number in numbers):
        raise ValueError(word)
    found = tuple(float(number) for number in numbers)
    if int(key) <= -23300:
        if found[0] != len(found) - 1:
            raise ValueError(word)
        return -23300 - int(key), found[1:]
    if len(found) != 1:
        raise ValueError(word)
    return int(key), found


def _rrdb(blocks: int) -> Iterator[tuple[str, Layer]]:
    """The layers of an RRDBNet x4 in the order of its computation, each with its name in the original checkpoint."""
    place = -1

    def layer(name: str, kind: str, inputs: tuple[int, ...], params: Params) -> tuple[str, Layer]:
        nonlocal place
        place += 1
        return name, Layer(kind, inputs, params)

    def convolution(name: str, source: int, width: int, out: int, bent: bool = False) -> tuple[str, Layer]:
        """3x3 with bias; bent: a leaky ReLU of 0.2 follows."""
        params: Params = {0: (out,), 1: (3,), 4: (1,), 5: (1,), 6: (out * width * 9,)}
        return layer(name, "Convolution", (source,), params | ({9: (2,), 10: (0.2,)} if bent else {}))

    def residual(name: str, change: int, to: int) -> tuple[str, Layer]:
        """0.2 change + to."""
        return layer(name, "Eltwise", (change, to), {0: (1,), 1: (0.2, 1.0)})

    yield convolution("conv_first", -1, 3, _WIDTH)
    for block in range(blocks):
        entered = place
        for dense in (1, 2, 3):
            prefix = f"body.{block}.rdb{dense}"
            seen = [place]
            for number in (1, 2, 3, 4, 5):
                if number > 1:
                    yield layer(f"{prefix}.concat{number}", "Concat", tuple(seen), {})
                last = number == 5
                width = _WIDTH + (number - 1) * _GROWTH
                yield convolution(f"{prefix}.conv{number}", place, width, _WIDTH if last else _GROWTH, bent=not last)
                seen.append(place)
            yield residual(f"{prefix}.sum", place, seen[0])
        yield residual(f"body.{block}.sum", place, entered)
    yield convolution("conv_body", place, _WIDTH, _WIDTH)
    yield layer("sum", "BinaryOp", (0, place), {})
    for name in ("conv_up1", "conv_up2"):
        yield layer(f"{name}.nearest", "Interp", (place,), {0: (1,), 1: (2.0,), 2: (2.0,)})
        yield convolution(name, place, _WIDTH, _WIDTH, bent=True)
    yield convolution("conv_hr", place, _WIDTH, _WIDTH, bent=True)
    yield convolution("conv_last", place, _WIDTH, 3)


def _read_weights(path: Path, named: list[tuple[str, Params]]) -> dict[str, "Tensor"]:
    """Weight and bias of every named convolution, which together must be the whole file."""
    import torch

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}", _REMEDY) from None
    place = 0

    def take(count: int, dtype: str, name: str) -> npt.NDArray[np.float32]:
        """The next numbers, padded to four bytes."""
        nonlocal place
        end = place + count * np.dtype(dtype).itemsize
        if end > len(data):
            what = f"{path} is cut short: the first tensor that is not complete is {name}."
            raise UserError(what, _REMEDY)
        values = np.frombuffer(data[place:end], dtype).astype(np.float32)
        place = -(-end // 4) * 4
        if not np.isfinite(values).all():
            raise UserError(f"{path} is damaged: {name} is not finite.", _REMEDY)
        return values

    tensors: dict[str, Tensor] = {}
    for name, params in named:
        out, count = int(params[0][0]), int(params[6][0])
        flag = struct.unpack_from("<I", data, place)[0] if place + 4 <= len(data) else _HALF
        if flag != _HALF and flag not in _FLOATS:
            raise UserError(f"{path}: {name}.weight is of no kind that is read here (flag {flag:#010x}).", _REMEDY)
        place += 4
        weight = take(count, "<f2" if flag == _HALF else "<f4", f"{name}.weight")
        tensors[f"{name}.weight"] = torch.from_numpy(weight.reshape(out, -1, 3, 3))
        tensors[f"{name}.bias"] = torch.from_numpy(take(out, "<f4", f"{name}.bias"))
    if place != len(data):
        raise UserError(f"{path} has {len(data) - place} bytes after the last of its tensors.", _REMEDY)
    return tensors
