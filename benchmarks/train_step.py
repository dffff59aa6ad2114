"""A training step from precomputed columns against the same step with the frozen models in the loop.

    python benchmarks/train_step.py [--scale nano|full] [--device cpu|cuda] [--batch 4] [--rounds 5] [--only ours]...

On a CPU the clock counts this process alone, so that other jobs do not show; on a GPU it is the wall's. Real classes
with random weights: SpaSemSR around a diffusers UNet, transformers' CLIPTextModel, diffusers' AutoencoderKL,
segment-anything's image encoder. Measured in turns in one run, medians of the rounds:

    ours        latents and SAM features come with the batch; CLIP encodes the batch's distinct strings, as in training
    VAE         the autoencoder encodes hr: what a step with it in the loop does beside
    SAM         its image encoder sees hr, likewise
    ControlNet  diffusers' plain ControlNet step on the same UNet, latents precomputed, one prompt a sample

`full` is SD 2.1-base, SAM ViT-H and 512 px (967 M trained parameters). All four at once need a GPU of 80 GB; `--only`
with one of them at a time and `--half-frozen` stays below 21 GB.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from spasemsr.backends.protocols import TextStates
from spasemsr.data.dataset import Batch, Objects
from spasemsr.diffusion.base import build_base
from spasemsr.diffusion.schedule import Schedule
from spasemsr.methods.noise import Noise
from spasemsr.methods.spasemsr.method import SpaSemSR
from spasemsr.methods.spasemsr.spec import ModelSpec
from spasemsr.training.memory import state_bytes
from spasemsr.training.meter import Meter
from spasemsr.training.optimizer import build_optimizer
from spasemsr.training.spec import TrainSpec

CASES = ("ours", "VAE", "SAM", "ControlNet")
TAGS = ("dog", "red car", "tree", "sky", "window", "stone wall")


@dataclass(frozen=True)
class Scale:
    """Sizes of everything."""

    patch: int
    model: dict[str, Any]
    clip: dict[str, int]
    vae: tuple[int, ...]
    sam: dict[str, Any]
    features: int


SCALES = {
    "nano": Scale(
        128,
        {
            "unet": {"block_out_channels": [32, 64, 96, 96], "attention_heads": [2, 4, 6, 6], "norm_num_groups": 16},
            "encoders": {"hint_channels": [8, 16, 16, 32]},
            "fusion_width": 64,
        },
        {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
        (16, 32, 64, 64),
        {"img_size": 256, "embed_dim": 64, "depth": 4, "num_heads": 4, "global_attn_indexes": (3,), "out_chans": 16},
        16,
    ),
    "full": Scale(
        512,
        {},
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16},
        (128, 256, 512, 512),
        {
            "img_size": 1024, "embed_dim": 1280, "depth": 32, "num_heads": 16, "out_chans": 256,
            "global_attn_indexes": (7, 15, 23, 31),
        },
        256,
    ),
}  # fmt: skip


class Latents:
    """What a method asks of an autoencoder in training: sizes."""

    channels, downscale, scaling_factor = 4, 8, 0.18215


class RandomClip(nn.Module):
    """CLIPTextModel with random weights; a string's tokens follow from its letters."""

    length = 77

    def __init__(self, sizes: dict[str, int]) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.width = sizes["hidden_size"]
        self.model = CLIPTextModel(CLIPTextConfig(**sizes)).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TextStates:
        """(B, 77, D) and the mask of BOS, letters and EOS."""
        ids, mask = torch.zeros(len(texts), self.length, dtype=torch.int64), torch.zeros(len(texts), self.length)
        for row, text in enumerate(texts):
            letters = [1, *(2 + ord(letter) % 250 for letter in text[: self.length - 2]), 300]
            ids[row, : len(letters)], mask[row, : len(letters)] = torch.tensor(letters), 1
        device = next(self.model.parameters()).device
        states = self.model(input_ids=ids.to(device)).last_hidden_state.float()
        return TextStates(states, mask.to(device))


def build_sam(sizes: dict[str, Any]) -> nn.Module:
    """segment-anything's image encoder as its `_build_sam` makes it."""
    from segment_anything.modeling import ImageEncoderViT

    return ImageEncoderViT(
        patch_size=16, mlp_ratio=4, qkv_bias=True, use_rel_pos=True, window_size=14,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), **sizes,
    ).eval().requires_grad_(False)  # fmt: skip


def build_vae(widths: tuple[int, ...]) -> nn.Module:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=widths, layers_per_block=2, latent_channels=4, norm_num_groups=min(widths[0], 32),
    ).eval().requires_grad_(False)  # fmt: skip


def make_batch(scale: Scale, size: int, device: torch.device) -> Batch:
    """Random pictures, six objects and a caption each."""
    draw = torch.Generator().manual_seed(0)
    cells, boxes = scale.patch // 8, np.tile(np.array([[0.1, 0.2, 0.6, 0.9]], np.float32), (len(TAGS), 1))
    objects = Objects(list(TAGS), boxes, [0.9] * len(TAGS), "benchmark")
    batch = Batch(
        keys=[f"k{i}" for i in range(size)],
        lr=torch.rand(size, 3, scale.patch // 4, scale.patch // 4, generator=draw),
        objects=[objects] * size,
        captions=[f"blurry and noisy, image {i}" for i in range(size)],
        moments=0.5 * torch.randn(size, 8, cells, cells, generator=draw),
        features={"sam": torch.randn(size, scale.features, cells, cells, generator=draw)},
        hr=torch.rand(size, 3, scale.patch, scale.patch, generator=draw),
    )
    return batch.to(device)


class ControlNetStep(nn.Module):
    """The loss of diffusers' train_controlnet example: frozen UNet, a ControlNet copied from it, one prompt."""

    def __init__(self, unet: nn.Module, text: RandomClip, schedule: Any) -> None:
        from diffusers import ControlNetModel

        super().__init__()
        self.unet, self.text, self.schedule = unet, text, schedule
        self.controlnet = ControlNetModel.from_unet(unet)

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        assert batch.moments is not None and batch.hr is not None
        latents = Latents.scaling_factor * batch.moments.chunk(2, dim=1)[0]
        eps = noise.gaussian("noise", batch.keys, latents.shape[1:]).to(latents)
        timesteps = noise.timesteps(batch.keys, 1000).to(latents.device)
        noisy = self.schedule.add_noise(latents, eps, timesteps)
        states = self.text.encode([", ".join(objects.tags) for objects in batch.objects]).states_BLD
        picture = nn.functional.interpolate(batch.lr, batch.hr.shape[-2:], mode="bicubic")
        down, mid = self.controlnet(noisy, timesteps, states, picture, return_dict=False)
        predicted = self.unet(
            noisy, timesteps, states, down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample
        return {"noise": nn.functional.mse_loss(predicted.float(), eps)}


def require_memory(model: nn.Module, trainable: dict[str, nn.Module], spec: TrainSpec, device: torch.device) -> None:
    """Stop before the machine does."""
    held, there = state_bytes(model, trainable, spec), sum(p.numel() * p.element_size() for p in model.parameters())
    wanted = held.total - (there if device.type == "cpu" else 0)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if wanted * 1.1 > free:
        raise SystemExit(f"{wanted / 1e9:.1f} GB of weights, gradients and moments do not fit into {free / 1e9:.1f} GB")


def halve_frozen(model: nn.Module) -> None:
    """Frozen convolutions and linear layers in bf16, which autocast makes of them anyway; norms stay as they are."""
    for layer in model.modules():
        frozen = [p for p in layer.parameters(recurse=False) if not p.requires_grad]
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and frozen:
            for parameter in frozen:
                parameter.data = parameter.data.bfloat16()


def training_step(
    model: nn.Module, trainable: dict[str, nn.Module], batch: Batch, spec: TrainSpec, half_frozen: bool
) -> Callable[[], None]:
    """Forward, backward, clip, AdamW."""
    device = batch.lr.device
    if half_frozen:
        halve_frozen(model)
    require_memory(model, trainable, spec, device)
    model.to(device).train()
    optimizer = build_optimizer(trainable, spec)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
            losses = model(batch, Noise(1, 0))
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def build_case(
    name: str, scale: Scale, batch: Batch, spec: TrainSpec, checkpointing: bool, half_frozen: bool
) -> tuple[Callable[[], Any], int]:
    """What is timed, and how many parameters it trains."""
    device, model_spec = batch.lr.device, ModelSpec.model_validate(scale.model)
    if name in ("VAE", "SAM"):
        frozen = (build_vae(scale.vae) if name == "VAE" else build_sam(scale.sam)).to(device)
        if half_frozen:
            halve_frozen(frozen)
        side = scale.sam["img_size"]

        @torch.no_grad()
        def look() -> Any:
            assert batch.hr is not None
            with torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bf16"):
                if name == "VAE":
                    return frozen.encode(batch.hr * 2 - 1).latent_dist.parameters
                return frozen(nn.functional.interpolate(batch.hr, (side, side), mode="bilinear"))

        return look, 0
    text = RandomClip(scale.clip).to(device)
    model: Any
    if name == "ours":
        model = SpaSemSR(
            model_spec, scale=4, lambda_=0.5, controlnet_weight=0.05,
            autoencoder=Latents(), text_encoder=text, feature_channels=scale.features,
        )  # fmt: skip
        model.set_engine(checkpointing=checkpointing, compiled=False)
        trainable = model.trainable()
    else:
        unet = build_base(
            model_spec.base, model_spec.unet, model_spec.schedule, Latents.channels, text.width
        ).requires_grad_(False)
        model = ControlNetStep(unet, text, Schedule.of(model_spec.schedule))
        trainable = {"controlnet": model.controlnet}
        if checkpointing:
            model.controlnet.enable_gradient_checkpointing()
            model.unet.enable_gradient_checkpointing()
    trained = sum(p.numel() for module in trainable.values() for p in module.parameters() if p.requires_grad)
    return training_step(model, trainable, batch, spec, half_frozen), trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="nano")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1, help="Rounds that are not counted.")
    parser.add_argument("--only", action="append", choices=CASES, help="Default: all.")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="Default: bf16 on a GPU.")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--half-frozen", action="store_true", help="Frozen weights in bf16.")
    parser.add_argument("--json", type=Path, help="Write the numbers here too.")
    args = parser.parse_args()
    scale, device = SCALES[args.scale], torch.device(args.device)
    precision = args.precision or ("bf16" if device.type == "cuda" else "fp32")
    spec, batch = TrainSpec(steps=1000, precision=precision), make_batch(scale, args.batch, device)
    chosen = [name for name in CASES if name in (args.only or CASES)]
    cases, trained = {}, {}
    for name in chosen:
        cases[name], trained[name] = build_case(name, scale, batch, spec, args.checkpointing, args.half_frozen)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    peaks: dict[str, int] = {}
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    for turn in range(args.warmup + args.rounds):
        for name, run in cases.items():
            meter = Meter(device, 1, args.batch, precision)
            start = clock()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= args.warmup:
                seconds[name].append(clock() - start)
                peaks[name] = meter.peak_bytes
    print(
        f"{args.scale}: {scale.patch} px, batch {args.batch}, {precision}, {device}, {torch.get_num_threads()} threads"
    )
    rows = []
    for name, values in seconds.items():
        median = statistics.median(values)
        memory = f"  peak {peaks[name] / 1e9:.1f} GB" if device.type == "cuda" else ""
        rate = args.batch / median
        print(f"{name:<12}{median * 1000:9.0f} ms{rate:9.3f} samples/s  {trained[name]:>13,} trained{memory}")
        rows.append({"name": name, "seconds": median, "samples_per_second": rate, "trained": trained[name]})
    if "ours" in seconds:
        ours, beside = statistics.median(seconds["ours"]), 0.0
        for name in (name for name in ("VAE", "SAM") if name in seconds):
            beside += statistics.median(seconds[name])
            print(f"with {name} in the loop too: {1 + beside / ours:.2f} x our time")
    if device.type == "cpu":
        print(f"peak of the process {Meter(device, 1, 1, precision).peak_bytes / 1e9:.1f} GB")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
