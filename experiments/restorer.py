"""The weights of `restore: {kind: compact}`: `python experiments/restorer.py OUT [--steps N]`.

A Compact network (Real-ESRGAN's SRVGGNet, built by spandrel) learns lr -> hr on the shards of the current params, which
`dvc repro synthesize` writes, with the pipeline's own trainer: killed and started again it goes on. OUT gets the loss
curve and the file that `restore: {kind: spandrel, source: OUT/weights.safetensors}` reads.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline import layout
from spasemsr.cache import default_root
from spasemsr.config import load_params
from spasemsr.data.columns import HR, LR
from spasemsr.data.dataset import Batch, Dataset
from spasemsr.data.order import SampleOrder
from spasemsr.hashing import fingerprint
from spasemsr.methods.noise import Noise
from spasemsr.methods.protocol import Trainable
from spasemsr.methods.stored import WEIGHTS
from spasemsr.training.loop import train
from spasemsr.weights.tensors import save_tensors

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
COLOUR_SHARE = 0.2  # of the squared error of RGB beside that of Y, which PSNR-Y looks at
LEAST_ERROR = 1e-5  # a mean squared error below this (50 dB) earns nothing more


class Restoration(Trainable):
    """Trains one x4 network on the logarithm of each image's squared error: on decibels, which PSNR averages."""

    columns = frozenset({"lr", "hr"})

    def __init__(self, features: int, convolutions: int) -> None:
        from spandrel.architectures.Compact import Compact

        super().__init__()
        self.network = Compact(num_in_ch=3, num_out_ch=3, num_feat=features, num_conv=convolutions, upscale=4)
        layers = [layer for layer in self.network.body if isinstance(layer, nn.Conv2d)]
        for layer in layers:  # keeps the variance through all layers; torch's default loses it at this depth
            nn.init.kaiming_normal_(layer.weight, a=0.25)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layers[-1].weight.mul_(0.1)

    def forward(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """mean_B ln(mse of Y + share * mse of RGB), each sample flipped and turned at random."""
        lr, hr = (self._turned(image, noise, batch.keys) for image in (batch.lr, batch.hr))
        error = self.network(lr).float() - hr
        luma = torch.einsum("bchw,c->bhw", error, error.new_tensor(LUMA))
        squared = (luma**2).mean((1, 2)) + COLOUR_SHARE * (error**2).mean((1, 2, 3))
        return {"decibels": torch.log(squared + LEAST_ERROR).mean() * 10 / math.log(10) / 100}

    def trainable(self) -> dict[str, nn.Module]:
        """The network."""
        return {"network": self.network}

    @staticmethod
    def _turned(images_BCHW: Tensor, noise: Noise, keys: list[str]) -> Tensor:
        turned = []
        for image, (across, down, swap) in zip(images_BCHW, noise.drop("turn", keys, [0.5] * 3), strict=True):
            image = image.flip(2) if across else image
            image = image.flip(1) if down else image
            turned.append(image.transpose(1, 2) if swap else image)
        return torch.stack(turned)


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--features", type=int, default=48)
    parser.add_argument("--convolutions", type=int, default=16)
    chosen = parser.parse_args()
    params = load_params()
    spec = params.active.train.model_copy(
        update={
            "init": None,
            "steps": chosen.steps,
            "global_batch": 16,
            "lr": 1e-3,
            "warmup_steps": 100,
            "cooldown_steps": chosen.steps - 100,
            "weight_decay": 0.0,
            "ema_decay": 0.998,
            "precision": "bf16",
            "channels_last": True,
            "save_every": 250,
            "log_every": 20,
        }
    )
    torch.manual_seed(params.seed)
    method, dataset = Restoration(chosen.features, chosen.convolutions), Dataset(layout.SHARDS, [LR, HR], "train")
    order = SampleOrder(dataset.keys_by_shard, params.seed, spec.global_batch)

    def batches(step: int, rank: int, world: int) -> Batch:
        return dataset.batch(order.at(step, rank, world), params.seed)

    run = fingerprint([vars(chosen) | {"out": None}, spec.plain(), params.seed, dataset.digests])[:32]
    chosen.out.mkdir(parents=True, exist_ok=True)
    spent = train(method, batches, spec, params.seed, default_root() / "train" / run, chosen.out / "losses.csv")
    if spent is not None:
        weights = {name: tensor.half().contiguous() for name, tensor in method.network.state_dict().items()}
        save_tensors(chosen.out / WEIGHTS, weights)
        print(spent)


if __name__ == "__main__":
    main()
