"""The loop of a restorer's training on one core: arguments, log, state, and the mean of the weights that is kept.

Killed and started again it goes on from the last state. OUT gets `weights.safetensors`, `losses.csv` and the state.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import crops
import cv2
import torch
from torch import nn

from spasemsr.weights.tensors import save_tensors

SAVE_EVERY = 100
Learn = Callable[[int, crops.Batch], list[float]]  # number of the step, its batch -> losses; moves the weights


def parser(doc: str | None, steps: int, cooldown: int) -> argparse.ArgumentParser:
    """PHOTOGRAPHS OUT [--steps N] [--cooldown N], with these defaults."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("photographs", type=Path)
    made.add_argument("out", type=Path)
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--cooldown", type=int, default=cooldown, help="last steps, over which the rate falls to zero")
    return made


def train(
    chosen: argparse.Namespace,
    networks: nn.ModuleDict,
    optimizers: dict[str, torch.optim.Optimizer],
    learn: Learn,
    warmup: int,
    ema: float,
    patch: int,
    count: int,
) -> None:
    """Train all networks; the mean of the weights of `networks["network"]`, decaying by `ema`, is what is written.

    The rate of each group of parameters is its own, times 1 after `warmup` steps and until the cooldown.
    """
    chosen.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    networks.to(memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in networks["network"].state_dict().items()}
    step, path = 0, chosen.out / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        step, average = state["step"], state["average"]
        networks.load_state_dict(state["networks"])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    rates = [group.setdefault("rate", group["lr"]) for group in groups]
    with (chosen.out / "losses.csv").open("a", newline="") as file:
        for batch in crops.batches(chosen.photographs, step, chosen.steps, patch, count):
            share = min(1, (step + 1) / warmup, (chosen.steps - step) / chosen.cooldown)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * share
            losses = learn(step, batch)
            decay = min(ema, (step + 1) / (step + 20))
            with torch.no_grad():
                for name, value in networks["network"].state_dict().items():
                    average[name].lerp_(value, 1 - decay)
            step += 1
            csv.writer(file).writerow([step, *(f"{loss:.4f}" for loss in losses)])
            if step % SAVE_EVERY == 0 or step == chosen.steps:
                file.flush()
                kept = {"step": step, "average": average, "networks": networks.state_dict()}
                kept["optimizers"] = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
                torch.save(kept, path.with_suffix(".new"))
                path.with_suffix(".new").replace(path)
                half = {name: value.half().contiguous() for name, value in average.items()}
                save_tensors(chosen.out / "weights.safetensors", half)


def descend(network: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, clip: float) -> None:
    """One step down the loss, the gradient's norm at most `clip`."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimizer.step()
