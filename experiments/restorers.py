"""The weights of `restore: {kind: aware}`: `python experiments/restorers.py PHOTOGRAPHS OUT [--device cuda]`.

Two sets of weights of one network are trained together, on crops of the photographs (crops.py). `aware` is faithful: it
lowers the error. `aware_sharp` is what looks like a photograph: it is near hr to the eye (ST-LPIPS and LPIPS), and a
discriminator cannot tell it from photographs (relativistic: Jolicoeur-Martineau 2019; a U-Net with spectral
normalization, as in Real-ESRGAN, that is shown bicubic beside the image). `restore.sharpness` takes any mean of the two
(network interpolation: Wang et al. 2018, ESRGAN 3.4), so a quarter of the steps are asked of a mean drawn at random,
whose loss is the same mean of both losses: what lies between the ends is trained too, and the ends stay near enough for
every mean to be a network.

Starts from the shipped weights. Killed and started again it goes on from its last state. OUT gets the two files, kept
every `--keep` steps too, and `losses.csv`.
"""

import argparse
import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import crops
import torch
from adversary import Discriminator, relativistic
from crops import Batch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from spasemsr.backends.networks.lpips import load_lpips
from spasemsr.backends.networks.stlpips import ShiftTolerantNetwork, load_stlpips
from spasemsr.backends.restorer.aware_network import AwareNetwork, anchored, grid_of
from spasemsr.backends.restorer.spec import AWARE, AWARE_SHARP
from spasemsr.backends.restorer.tiles import SCALE
from spasemsr.pixels import bicubic_upsample
from spasemsr.randomness import generator
from spasemsr.weights.store import locate
from spasemsr.weights.tensors import load_strictly, read_state_dict, save_tensors

RATE, WARMUP, EMA, CLIP = 2e-4, 200, 0.999, 1.0  # of Adam, steps, of the mean of the weights that is written, norm
FAITHFUL_SHARE, SHARP_SHARE = 0.25, 0.5  # of the steps; the rest is asked of a mean
PIXEL, SHIFT_TOLERANT, EXACT, ADVERSARIAL, FINEST = 0.5, 3.0, 1.5, 0.05, 1.0
ALONE = 300  # first steps, in which only the discriminator and the other losses work
PHASES = 16  # places of LPIPS's coarsest grid, whose start is drawn, so that no pattern can sit on it
SAVE_EVERY, LOG_EVERY = 500, 50
LOSSES = ("faithful", "pixel", "shift-tolerant", "exact", "finest", "judged")


class Restoring(nn.Module):
    """A network asked as a restorer asks it: (lr, whole picture, measures) -> (restored, its residual)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = AwareNetwork()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        lr = batch.lr_B3hw
        residual = self.network.residual(lr, self.network.modulation(batch.whole_B3hw, batch.measures_BM))
        return bicubic_upsample(lr, SCALE) + anchored(residual, lr), residual


class Step:
    """One step of both sets of weights and of the discriminator, which changes them in place."""

    def __init__(self, ends: nn.ModuleDict, judge: Discriminator, device: str) -> None:
        self._ends, self._judge = ends, judge
        self._names = [name for name, _ in ends["faithful"].named_parameters()]
        self._parameters = {end: [value for _, value in ends[end].named_parameters()] for end in ends}
        self._trained = [*self._parameters["faithful"], *self._parameters["sharp"]]
        self._asked = Restoring().to(device)
        self.optimizers = [adam(self._trained, device), adam(list(judge.parameters()), device)]
        self._tolerant, self._exact = load_stlpips().to(device), load_lpips(locate("lpips-alex").path).to(device)

    def __call__(self, batch: Batch, share: Tensor, adversarial: Tensor, phase_2: Tensor) -> Tensor:
        """Losses, in the order of `LOSSES`. `share` of the sharp weights, the weight of the adversarial loss and the
        start of LPIPS's grid are tensors, so that a recorded step takes each step's own."""
        pairs = zip(self._parameters["faithful"], self._parameters["sharp"], strict=True)
        mean = {f"network.{name}": torch.lerp(a, b, share) for name, (a, b) in zip(self._names, pairs, strict=True)}
        restored, residual = functional_call(self._asked, mean, (batch,))
        restored = restored - grid_of(residual) * (share > 0)
        restored.register_hook(torch.nan_to_num)  # a length of zero, in the distances' features, has no slope
        hr, bicubic = batch.hr_B3HW, bicubic_upsample(batch.lr_B3hw, SCALE)

        real = self._judge(hr, bicubic)
        judged = relativistic(real, self._judge(restored.detach(), bicubic))
        self._descend(self.optimizers[1], share * judged, list(self._judge.parameters()), None)
        fooled = relativistic(self._judge(restored, bicubic), real.detach())

        errors = crops.squared(restored - hr)
        relative = (errors / (batch.references_B + 5e-5)).mean()  # counts patches as the PSNR of a whole picture does
        faithful = (relative + torch.log(errors + 2e-5).mean()) / 2  # without which smooth patches keep their noise
        pixel = (restored - hr).abs().mean()
        tolerant = distance(self._tolerant, restored, hr)
        exact = distance(self._exact, moved(restored, phase_2), moved(hr, phase_2))
        swings = (finest(restored) - finest(hr)).abs().mean()
        sharp = PIXEL * pixel + SHIFT_TOLERANT * tolerant + EXACT * exact + FINEST * swings + adversarial * fooled
        self._descend(self.optimizers[0], torch.lerp(faithful, sharp, share), self._trained, CLIP)
        return torch.stack([relative, pixel, tolerant, exact, swings, judged]).detach()

    def set_rate(self, rate: float) -> None:
        """Of both optimizers."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @staticmethod
    def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, parameters: list[nn.Parameter], clip: float | None):
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=parameters)
        if clip:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()


class Recorded:
    """A step on a GPU that is recorded once and replayed (a CUDA graph): its many small kernels cost no Python then."""

    _EAGER = 3  # steps before it is recorded, in which libraries choose their kernels

    def __init__(self, step: Step) -> None:
        self._step, self._calls, self._graph = step, 0, torch.cuda.CUDAGraph()
        self._beside, self._made = torch.cuda.Stream(), {}

    def __call__(self, batch: Batch, *scalars: Tensor) -> Tensor:
        """As the step itself."""
        with self._constants():
            return self._run(batch, *scalars)

    @contextmanager
    def _constants(self) -> Iterator[None]:
        """Inside, `new_tensor` makes each constant once: what is recorded can take nothing from the host."""
        plain = Tensor.new_tensor

        def once(tensor: Tensor, data: object, **options: object) -> Tensor:
            key = repr(data), tensor.dtype, tensor.device, repr(options)
            if key not in self._made:
                self._made[key] = plain(tensor, data, **options)
            return self._made[key]

        Tensor.new_tensor = once
        try:
            yield
        finally:
            Tensor.new_tensor = plain

    def _run(self, batch: Batch, *scalars: Tensor) -> Tensor:
        inputs = [*vars(batch).values(), *(each.to(batch.lr_B3hw.device) for each in scalars)]
        count = len(vars(batch))
        self._calls += 1
        if self._calls <= self._EAGER:
            self._beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._beside):
                losses = self._step(Batch(*inputs[:count]), *inputs[count:])
            torch.cuda.current_stream().wait_stream(self._beside)
            return losses
        if self._calls == self._EAGER + 1:
            self._inputs = [each.clone() for each in inputs]
            torch.cuda.synchronize()
            with torch.cuda.graph(self._graph):
                self._losses = self._step(Batch(*self._inputs[:count]), *self._inputs[count:])
        torch._foreach_copy_(self._inputs, inputs)
        self._graph.replay()
        return self._losses.clone()


def adam(parameters: list[nn.Parameter], device: str) -> torch.optim.Adam:
    """Adam whose rate is a tensor on a GPU, where steps are recorded."""
    recorded = device != "cpu"
    rate = torch.tensor(RATE, device=device) if recorded else RATE
    return torch.optim.Adam(parameters, rate, (0.9, 0.99), capturable=recorded)


def distance(network: ShiftTolerantNetwork, restored_B3HW: Tensor, hr_B3HW: Tensor) -> Tensor:
    """Mean over the batch, of images in [0, 1]; on a GPU its convolutions are in bf16."""
    kind = hr_B3HW.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu", cache_enabled=False):
        with torch.no_grad():
            features = network.features(hr_B3HW * 2 - 1)
        return network(restored_B3HW * 2 - 1, features).float()


def moved(image_B3HW: Tensor, phase_2: Tensor) -> Tensor:
    """The image from row and column `phase` on, `PHASES` pixels smaller."""
    for axis, start in zip((2, 3), phase_2, strict=True):
        places = torch.arange(image_B3HW.shape[axis] - PHASES, device=image_B3HW.device) + start
        image_B3HW = image_B3HW.index_select(axis, places)
    return image_B3HW


def finest(image_B3HW: Tensor) -> Tensor:
    """What swings from pixel to pixel, along x and along y: fourth differences of the mean of colours, (2, B, 1, H, W).

    Both distances are nearly blind to it, so without this loss it is where a network leaves its patterns.
    """
    kernel = image_B3HW.new_tensor([1.0, -4.0, 6.0, -4.0, 1.0]).view(1, 1, 1, 5) / 16
    gray = functional.pad(image_B3HW.mean(1, keepdim=True), [2] * 4, mode="reflect")
    across, down = functional.conv2d(gray, kernel)[:, :, 2:-2], functional.conv2d(gray, kernel.transpose(2, 3))
    return torch.stack([across, down[..., 2:-2]])


def drawn(step: int) -> tuple[float, float, list[int]]:
    """Of a step: share of the sharp weights, weight of the adversarial loss, start of LPIPS's grid."""
    rng = generator(crops.SEED, "share", step)
    kind = rng.random()
    share = 0.0 if kind < FAITHFUL_SHARE else 1.0 if kind < FAITHFUL_SHARE + SHARP_SHARE else float(rng.random())
    return share, ADVERSARIAL * (step >= ALONE), [int(start) for start in rng.integers(0, PHASES, 2)]


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=15000)
    parser.add_argument("--cooldown", type=float, default=0.6, help="last share of it, in which the rate falls to zero")
    parser.add_argument("--minutes", type=float, help="of training by the clock, in the place of steps")
    parser.add_argument("--patch", type=int, default=48, help="lr pixels a side")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--keep", type=int, default=0, help="keep the weights of every so many steps")
    parser.add_argument("--workers", type=int, default=1, help="processes that degrade crops")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--faithful", type=Path, default=AWARE)
    parser.add_argument("--sharp", type=Path, default=AWARE_SHARP)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    state = chosen.out / "state.pt"
    kept = torch.load(state, map_location="cpu", weights_only=True) if state.exists() else None
    start = kept["step"] if kept else 0
    with crops.Pool(chosen.photographs, start, chosen.patch, chosen.batch, chosen.device, chosen.workers) as pool:
        train(chosen, pool, start, kept)


def train(chosen: argparse.Namespace, pool: crops.Pool, start: int, kept: dict | None) -> None:
    """From step `start` to the last."""
    torch.manual_seed(crops.SEED)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    ends, judge = nn.ModuleDict({"faithful": AwareNetwork(), "sharp": AwareNetwork()}), Discriminator()
    for end, path in (("faithful", chosen.faithful), ("sharp", chosen.sharp)):
        load_strictly(ends[end], {name: value.float() for name, value in read_state_dict(path).items()}, str(path))
    networks = nn.ModuleDict({"ends": ends, "judge": judge})
    networks.to(chosen.device, memory_format=torch.channels_last)
    if kept:
        networks.load_state_dict(kept["networks"])
    step = Step(ends, judge, chosen.device)
    average = [value.detach().clone() for value in ends.parameters()]
    if kept:
        for optimizer, was in zip(step.optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(was)
        torch._foreach_copy_(average, [value.to(chosen.device) for value in kept["average"]])
    learn = Recorded(step) if chosen.device != "cpu" else step
    with (chosen.out / "losses.csv").open("a", newline="") as file:
        now, began, done = start, time.monotonic(), start / chosen.steps
        while done < 1:
            share, adversarial, phase = drawn(now)
            step.set_rate(RATE * min(1, (now + 1) / WARMUP, (1 - done) / chosen.cooldown))
            losses = learn(pool.batch(now), torch.tensor(share), torch.tensor(adversarial), torch.tensor(phase))
            with torch.no_grad():
                torch._foreach_lerp_(average, list(ends.parameters()), 1 - min(EMA, (now + 1) / (now + 20)))
            now += 1
            if now % LOG_EVERY == 0:
                csv.writer(file).writerow([now, f"{share:.3f}", *(f"{loss:.4f}" for loss in losses.tolist())])
            done = (time.monotonic() - began) / 60 / chosen.minutes if chosen.minutes else now / chosen.steps
            if now % SAVE_EVERY == 0 or done >= 1:
                file.flush()
                save(chosen, now, networks, step, average)


def save(chosen: argparse.Namespace, done: int, networks: nn.ModuleDict, step: Step, average: list[Tensor]) -> None:
    """The state, and the mean of the weights in half precision: `aware.safetensors` and `aware_sharp.safetensors`."""
    path = chosen.out / "state.pt"
    kept = {"step": done, "average": average, "networks": networks.state_dict()}
    kept["optimizers"] = [optimizer.state_dict() for optimizer in step.optimizers]
    torch.save(kept, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    values = iter(average)
    for end, shipped in (("faithful", AWARE), ("sharp", AWARE_SHARP)):
        names = [name for name, _ in networks["ends"][end].named_parameters()]
        half = {name: next(values).half().cpu().contiguous() for name in names}
        save_tensors(chosen.out / shipped.name, half)
        if chosen.keep and done % chosen.keep == 0:
            save_tensors(chosen.out / f"{done}_{shipped.name}", half)


if __name__ == "__main__":
    main()
