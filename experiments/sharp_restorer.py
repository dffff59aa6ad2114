"""The sharp end of `restore: {kind: aware}`: `python experiments/sharp_restorer.py PHOTOGRAPHS OUT [--steps N]`.

Goes on from the weights of `aware`, on the crops of `experiments/aware_restorer.py`, with another loss: what is far
from hr to the eye (ST-LPIPS), and what a discriminator can tell from photographs (relativistic: Jolicoeur-Martineau
2019; a U-Net with spectral normalization, as in Real-ESRGAN, that is shown bicubic beside the image), held near hr by
the mean absolute error. Because it starts there, every mean of both weights is a network too (network interpolation,
ESRGAN 3.4): `restore.sharpness` says which, and the dial moves it.

Killed and started again it goes on. OUT gets `weights.safetensors`, `losses.csv` and the state.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import aware_restorer
import cv2
import torch
from aware_restorer import POOL, RENEW, SCALE, batch_of, make_crop, pictures
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from spasemsr.backends.restorer.aware_network import AwareNetwork, anchored
from spasemsr.backends.restorer.spec import AWARE
from spasemsr.evaluation.stlpips import ShiftTolerantDistance
from spasemsr.pixels import bicubic_upsample
from spasemsr.weights.tensors import load_strictly, read_state_dict, save_tensors

RATE, WARMUP, EMA, CLIP = 2e-4, 100, 0.998, 1.0
PIXEL, PERCEPTUAL, ADVERSARIAL = 1.0, 1.0, 0.05
ALONE = 150  # first steps, in which only the discriminator and the other two losses work
WIDTH = 48  # channels of the discriminator's first layer, at half size
PATCH, BATCH = 32, 8  # lr pixels, patches
SAVE_EVERY = 100


class Discriminator(nn.Module):
    """(image, bicubic) -> a logit for each pixel at half size: higher where it looks like a photograph."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()

        def layer(i: int, o: int, side: int, stride: int) -> nn.Module:
            return nn.Sequential(spectral_norm(nn.Conv2d(i, o, side, stride, side // 2)), nn.LeakyReLU(0.2))

        self.first = layer(6 * 4, width, 3, 1)
        self.down = nn.ModuleList([layer(width, 2 * width, 4, 2), layer(2 * width, 2 * width, 4, 2)])
        self.up = nn.ModuleList([layer(2 * width, 2 * width, 3, 1), layer(2 * width, width, 3, 1)])
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image_B3HW: Tensor, bicubic_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) both -> (B, 1, H/2, W/2)."""
        both = torch.cat([image_B3HW, bicubic_B3HW], 1) * 2 - 1
        x = self.first(functional.pixel_unshuffle(both, 2))
        kept = []
        for down in self.down:
            kept.append(x)
            x = down(x)
        for up, beside in zip(self.up, reversed(kept), strict=True):
            x = up(functional.interpolate(x, size=beside.shape[-2:], mode="bilinear")) + beside
        return self.out(x)


def relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """-log of how much more real the first looks than the mean of the second, and the other way round."""
    return (functional.softplus(fake.mean() - real).mean() + functional.softplus(fake - real.mean()).mean()) / 2


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, default=AWARE, help="weights to go on from, the shipped sharp ones say")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--cooldown", type=int, default=1500, help="last steps, over which the rate falls to zero")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    network, judge = AwareNetwork(), Discriminator()
    load_strictly(network, read_state_dict(chosen.start), str(chosen.start))
    networks = nn.ModuleDict({"network": network, "judge": judge}).to(memory_format=torch.channels_last)
    optimizers = [torch.optim.Adam(each.parameters(), betas=(0.9, 0.99)) for each in (network, judge)]
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    begun, path = 0, chosen.out / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        begun, average = state["step"], state["average"]
        networks.load_state_dict(state["networks"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
    with (chosen.out / "losses.csv").open("a", newline="") as file:
        for step, losses in steps(networks, optimizers, average, begun, chosen):
            csv.writer(file).writerow([step, *(f"{loss:.4f}" for loss in losses)])
            if step % SAVE_EVERY == 0 or step == chosen.steps:
                file.flush()
                kept = {"step": step, "average": average, "networks": networks.state_dict()}
                kept["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
                torch.save(kept, path.with_suffix(".new"))
                path.with_suffix(".new").replace(path)
                half = {name: value.half().contiguous() for name, value in average.items()}
                save_tensors(chosen.out / "weights.safetensors", half)


def steps(
    networks: nn.ModuleDict,
    optimizers: list[torch.optim.Optimizer],
    average: dict[str, Tensor],
    step: int,
    chosen: argparse.Namespace,
) -> Iterator[tuple[int, list[float]]]:
    """Train from `step` on; yields the number of each finished step and its losses."""
    network, judge = networks["network"], networks["judge"]
    perceptual = ShiftTolerantDistance().network
    sources = pictures(chosen.photographs)
    shares = aware_restorer.shares_of(sources)
    renewed = -(-step // RENEW)
    pool = [make_crop(renewed + (i - renewed) % POOL, sources, shares) for i in range(POOL)]
    while step < chosen.steps:
        if step % RENEW == 0:
            pool[step // RENEW % POOL] = make_crop(step // RENEW + POOL, sources, shares)
        lr, hr, whole, measures, _ = batch_of(step, pool, PATCH, BATCH)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / WARMUP, (chosen.steps - step) / chosen.cooldown)
        bicubic = bicubic_upsample(lr, SCALE)
        restored = bicubic + anchored(network.residual(lr, network.modulation(whole, measures)), lr)
        pixel = (restored - hr).abs().mean()
        distance = perceptual(restored * 2 - 1, [each.detach() for each in perceptual.features(hr * 2 - 1)])
        real = judge(hr, bicubic)
        judged = relativistic(real, judge(restored.detach(), bicubic))
        optimizers[1].zero_grad()
        judged.backward()
        loss = PIXEL * pixel + PERCEPTUAL * distance
        if step >= ALONE:
            judge.requires_grad_(False)
            loss = loss + ADVERSARIAL * relativistic(judge(restored, bicubic), real.detach())
            judge.requires_grad_(True)
        optimizers[0].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        for optimizer in optimizers:
            optimizer.step()
        decay = min(EMA, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        step += 1
        yield step, [float(each.detach()) for each in (pixel, distance, judged)]


if __name__ == "__main__":
    main()
