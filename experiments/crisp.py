"""The weights of the larger network of the sharp end: `python experiments/crisp.py PHOTOGRAPHS OUT [--minutes 200]`.

The network (spasemsr/backends/restorer/crisp_network.py) begins as Real-ESRGAN x4plus, the teacher, with `KEPT` of its
23 blocks: those left when one after the other is taken out without which the image changes least; or, with `--begin
shipped`, with the weights that ship. First the teacher restores `--crops` degraded crops of the photographs
(crops.py), one in seven with lines or lettering drawn over it (drawn.py), which are kept in OUT/crops. Then the
network learns from both images of a crop, `TAUGHT` from the teacher's and the rest from hr: the mean absolute error,
LPIPS and ST-LPIPS (in a step both to one of the two, drawn), beside the finest swings to hr alone. A teacher has made
one choice of all detail that fits lr, which is learned sooner than the mean of all, and leaves noise alone, which hr
does not teach. Killed and started again it goes on from its last state. OUT gets `crisp.safetensors`, a running mean
of the weights in eight bits, and `losses.csv`. The mean of the weights of two runs (measure_crisp.py) is better than
either.
"""

import argparse
import csv
import time
from pathlib import Path

import crops
import numpy as np
import torch
from drawn import drawn
from restorers import CLIP, PHASES, finest, moved
from torch import Tensor, nn

from spasemsr.backends.networks.lpips import load_lpips
from spasemsr.backends.networks.stlpips import ShiftTolerantNetwork, load_stlpips
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.aware_network import anchored, grid_of
from spasemsr.backends.restorer.crisp_network import CONVOLUTIONS, DENSE, CrispNetwork
from spasemsr.backends.restorer.spandrel_restorer import SpandrelRestorer
from spasemsr.backends.restorer.spec import CRISP, SpandrelRestorerSpec
from spasemsr.backends.restorer.tiles import SCALE
from spasemsr.pixels import bicubic_upsample
from spasemsr.randomness import generator
from spasemsr.weights.eight_bits import packed, unpacked
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import load_strictly, read_state_dict, save_tensors

TEACHER = "realesrgan-x4plus-ncnn"
KEPT = (0, 1, 2, 3, 4, 6, 21, 22)
DRAWN_EVERY = 7  # crops
RATE, WARMUP, EMA, COOLDOWN = 2e-4, 100, 0.998, 0.5  # of Adam; steps; share of the minutes
TAUGHT, EXACT, SHIFT_TOLERANT, FINEST = 0.5, 2.5, 8.0, 5.0  # share of the teacher's image; weights beside the error's
SAVE_EVERY, LOG_EVERY = 100, 50


def teacher(device: str = "cpu") -> SpandrelRestorer:
    """Real-ESRGAN x4plus, from its package."""
    restorer = build_restorer(SpandrelRestorerSpec(kind="spandrel", source=TEACHER, precision="bf16"), device)
    assert isinstance(restorer, SpandrelRestorer)
    return restorer


def beginning() -> CrispNetwork:
    """The teacher with `KEPT` of its blocks."""
    there, network = teacher()._model.model.state_dict(), CrispNetwork()
    names = {"head": "model.0", "body": "model.1.sub.23", "up1": "model.3", "up2": "model.6", "last": "model.8"}
    names["out"] = "model.10"
    for block, kept in enumerate(KEPT):
        for dense in range(DENSE):
            for conv in range(CONVOLUTIONS):
                here = f"blocks.{block}.dense.{dense}.convs.{conv}"
                names[here] = f"model.1.sub.{kept}.RDB{dense + 1}.conv{conv + 1}.0"
    known = {f"{here}.{kind}": there[f"{name}.{kind}"] for here, name in names.items() for kind in ("weight", "bias")}
    network.load_state_dict(known)
    return network


def shipped() -> CrispNetwork:
    """The network with the weights of the package."""
    network = CrispNetwork()
    load_strictly(network, unpacked(read_state_dict(CRISP)), str(CRISP))
    return network


def make_crops(photographs: Path, folder: Path, count: int, device: str) -> None:
    """`folder`/00000.npz ... with lr, hr and the teacher's image; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    sources, restorer = crops.pictures(photographs), teacher(device)
    shares = crops.shares_of(sources)
    for number in range(count):
        path = folder / f"{number:05}.npz"
        if path.exists():
            continue
        crop = crops.make_crop(number, sources, shares, drawn if number % DRAWN_EVERY == 0 else None)
        with path.with_suffix(".new").open("wb") as file:
            np.savez(file, lr=crop.lr, hr=crop.hr, taught=restorer.restore([crop.lr], SCALE)[0])
        path.with_suffix(".new").replace(path)


class Crops:
    """All crops, in memory; the patches of a step are a function of its number."""

    def __init__(self, folder: Path, patch: int, count: int, device: str) -> None:
        self._patch, self._count, self._device = patch, count, device
        self._held = []
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as crop:
                self._held.append([torch.from_numpy(crop[name]) for name in ("lr", "hr", "taught")])

    def batch(self, step: int) -> list[Tensor]:
        """Patches of lr, (B, 3, p, p), and of hr and the teacher's image, (B, 3, 4p, 4p), flipped and turned alike."""
        rng, patches = generator(crops.SEED, "taught", step), []
        for _ in range(self._count):
            held = self._held[int(rng.integers(len(self._held)))]
            y, x = (int(start) for start in rng.integers(0, crops.CROP - self._patch + 1, 2))
            turn = int(rng.integers(8))
            patches.append([self._cut(image, y, x, turn) for image in held])
        stacked = [torch.stack(each).to(self._device) for each in zip(*patches, strict=True)]
        return [images.contiguous(memory_format=torch.channels_last) for images in stacked]

    def _cut(self, image_HW3: Tensor, y: int, x: int, turn: int) -> Tensor:
        scale = len(image_HW3) // crops.CROP
        y, x, side = y * scale, x * scale, self._patch * scale
        cut = image_HW3[y : y + side, x : x + side].permute(2, 0, 1) / 255
        cut = cut.flip([axis for axis, bit in ((-2, 1), (-1, 2)) if turn & bit])
        return cut.transpose(-1, -2) if turn & 4 else cut


class Losses:
    """What is lowered, and each part of it for the log."""

    def __init__(self, device: str) -> None:
        self._tolerant, self._exact = load_stlpips().to(device), load_lpips(locate("lpips-alex").path).to(device)

    def __call__(
        self, restored: Tensor, hr: Tensor, taught: Tensor, phase: Tensor, by_teacher: bool
    ) -> tuple[Tensor, list[float]]:
        """Of (B, 3, H, W) in [0, 1]. `phase`: start of LPIPS's grid; `by_teacher`: distances are to `taught`."""
        target = taught if by_teacher else hr
        parts = [
            (TAUGHT, (restored - taught).abs().mean()),
            (1 - TAUGHT, (restored - hr).abs().mean()),
            (EXACT, distance(self._exact, moved(restored, phase), moved(target, phase))),
            (SHIFT_TOLERANT, distance(self._tolerant, restored, target)),
            (FINEST, (finest(restored) - finest(hr)).abs().mean()),
        ]
        return sum((weight * part for weight, part in parts), hr.new_zeros(())), [
            part.detach().item() for _, part in parts
        ]


def distance(network: ShiftTolerantNetwork, restored_B3HW: Tensor, target_B3HW: Tensor) -> Tensor:
    """Mean over the batch, of images in [0, 1]; convolutions are in bf16."""
    with torch.autocast(restored_B3HW.device.type, torch.bfloat16):
        with torch.no_grad():
            features = network.features(target_B3HW * 2 - 1)
        return network(restored_B3HW * 2 - 1, features).float()


def restored_by(network: CrispNetwork, lr_B3hw: Tensor) -> Tensor:
    """As the restorer makes it, not clamped; the network is in bf16."""
    with torch.autocast(lr_B3hw.device.type, torch.bfloat16):
        image = network(lr_B3hw)
    bicubic = bicubic_upsample(lr_B3hw, SCALE)
    residual = image.float() - bicubic
    return bicubic + anchored(residual, lr_B3hw) - grid_of(residual)


def main() -> None:
    """Make the crops, then train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=200, help="of training by the clock")
    parser.add_argument("--crops", type=int, default=1400)
    parser.add_argument("--begin", choices=("teacher", "shipped"), default="teacher")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch", type=int, default=48, help="lr pixels a side")
    parser.add_argument("--batch", type=int, default=6)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(crops.SEED)
    make_crops(chosen.photographs, chosen.out / "crops", chosen.crops, chosen.device)
    network = beginning() if chosen.begin == "teacher" else shipped()
    network = network.to(chosen.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), RATE, (0.9, 0.99))
    average = [value.detach().clone() for value in network.parameters()]
    state, now, spent = chosen.out / "state.pt", 0, 0.0
    if state.exists():
        kept = torch.load(state, map_location=chosen.device, weights_only=True)
        now, spent, average = kept["step"], kept["spent"], kept["average"]
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
    losses = Losses(chosen.device)
    held = Crops(chosen.out / "crops", chosen.patch, chosen.batch, chosen.device)
    with (chosen.out / "losses.csv").open("a", newline="") as file:
        began = time.monotonic() - spent
        while (done := (time.monotonic() - began) / 60 / chosen.minutes) < 1:
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (now + 1) / WARMUP, (1 - done) / COOLDOWN)
            lr, hr, taught = held.batch(now)
            restored = restored_by(network, lr)
            restored.register_hook(torch.nan_to_num)  # a length of zero, in the distances' features, has no slope
            rng = generator(crops.SEED, "losses", now)
            phase, by_teacher = torch.from_numpy(rng.integers(0, PHASES, 2)).to(chosen.device), rng.random() < TAUGHT
            loss, parts = losses(restored, hr, taught, phase, by_teacher)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, list(network.parameters()), 1 - min(EMA, (now + 1) / (now + 20)))
            now += 1
            if now % LOG_EVERY == 0:
                csv.writer(file).writerow([now, *(f"{part:.4f}" for part in parts)])
            if now % SAVE_EVERY == 0:
                file.flush()
                save(chosen.out, network, optimizer, average, now, time.monotonic() - began)
        save(chosen.out, network, optimizer, average, now, time.monotonic() - began)


def save(
    out: Path, network: CrispNetwork, optimizer: torch.optim.Adam, average: list[Tensor], now: int, spent: float
) -> None:
    """The state, and the mean of the weights in eight bits."""
    kept = {"step": now, "spent": spent, "average": average, "network": network.state_dict()}
    torch.save(kept | {"optimizer": optimizer.state_dict()}, out / "state.new")
    (out / "state.new").replace(out / "state.pt")
    names = [name for name, _ in network.named_parameters()]
    save_tensors(
        out / "crisp.safetensors", packed({name: value.cpu() for name, value in zip(names, average, strict=True)})
    )


if __name__ == "__main__":
    main()
