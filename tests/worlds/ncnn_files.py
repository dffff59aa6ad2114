"""A random RRDBNet, and its two files as ncnn's converter writes them."""

import struct
from pathlib import Path

import numpy as np
import torch

HALF, SINGLE = 0x01306B47, 0x0002C056


def random_rrdb(blocks: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """The tensors of an RRDBNet x4 of 64 channels, in the order of its computation, exact in half precision."""
    generator, state = torch.Generator().manual_seed(seed), {}

    def convolution(name: str, width: int, out: int) -> None:
        bound = 1 / (3 * width**0.5)
        for part, shape in (("weight", (out, width, 3, 3)), ("bias", (out,))):
            values = (torch.rand(shape, generator=generator) * 2 - 1) * bound
            state[f"{name}.{part}"] = values.half().float()

    convolution("conv_first", 3, 64)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for number in range(1, 6):
                out = 64 if number == 5 else 32
                convolution(f"body.{block}.rdb{dense}.conv{number}", 32 + 32 * number, out)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        convolution(name, 64, 64)
    convolution("conv_last", 64, 3)
    return state


def write_ncnn(folder: Path, state: dict[str, torch.Tensor], flag: int = HALF) -> Path:
    """Write `net.param` and `net.bin`; the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.float16 if flag == HALF else np.float32
    with (folder / "net.bin").open("wb") as out:
        for name, tensor in state.items():
            values = tensor.numpy()
            out.write(struct.pack("<I", flag) + values.astype(dtype).tobytes() if name.endswith("weight") else b"")
            out.write(values.tobytes() if name.endswith("bias") else b"\0" * (-out.tell() % 4))
    lines: list[str] = ["Input input 0 1 data"]
    names = ["data"]

    def layer(kind: str, inputs: list[str], settings: str = "") -> str:
        """Append a layer, after a Split where its first input has been read before, as the converter does."""
        name = f"v{len(names)}"
        copies = [f"{name}_copy", f"{name}_rest"]
        lines.append(f"Split split{name} 1 2 {inputs[0]} {copies[0]} {copies[1]}")
        read = [copies[0], *inputs[1:]]
        lines.append(f"{kind} {kind}_{name} {len(read)} 1 {' '.join(read)} {name} {settings}")
        names.extend([name, *copies])
        return name

    def convolution(name: str, source: str, bent: bool = False) -> str:
        out, width = state[f"{name}.weight"].shape[:2]
        settings = f"0={out} 1=3 4=1 5=1 6={out * width * 9}" + (" 9=2 -23310=1,2.000000e-01" if bent else "")
        return layer("Convolution", [source], settings)

    first = value = convolution("conv_first", "data")
    blocks = sum(name.endswith("rdb1.conv1.bias") for name in state)
    for block in range(blocks):
        entered = value
        for dense in (1, 2, 3):
            prefix, seen = f"body.{block}.rdb{dense}", [value]
            for number in range(1, 6):
                read = seen[0] if number == 1 else layer("Concat", seen)
                seen.append(convolution(f"{prefix}.conv{number}", read, bent=number < 5))
            value = layer("Eltwise", [seen[5], seen[0]], "0=1 -23301=2,2.000000e-01,1.000000e+00")
        value = layer("Eltwise", [value, entered], "0=1 -23301=2,2.000000e-01,1.000000e+00")
    value = layer("BinaryOp", [first, convolution("conv_body", value)])
    for name in ("conv_up1", "conv_up2"):
        value = convolution(name, layer("Interp", [value], "0=1 1=2.000000e+00 2=2.000000e+00"), bent=True)
    convolution("conv_last", convolution("conv_hr", value, bent=True))
    text = "\n".join(["7767517", f"{len(lines)} {len(names)}", *lines])
    (folder / "net.param").write_text(text + "\n")
    return folder / "net.param"
