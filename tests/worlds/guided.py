"""What the tests of all guided networks share: the smallest UNet, random latents, files, the frozen base."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spasemsr.diffusion.network import GuidedNetwork
from tests.worlds.small_networks import LATENTS, PICO, TEXT, redraw_zeros

__all__ = ["LATENTS", "TEXT", "UNET"]
UNET = PICO["unet"]
Network = TypeVar("Network", bound=GuidedNetwork)


def random_latents(height: int = 16, width: int = 16, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Noisy latents of two samples, (2, 4, height, width), and their timesteps."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(2, LATENTS, height, width, generator=draw), torch.tensor([37, 812])


def parameters(network: GuidedNetwork) -> dict[str, nn.Parameter]:
    """Every trained parameter by name."""
    return dict(nn.ModuleDict(network.trainable()).named_parameters())


def redraw(network: Network, scale: float = 0.05) -> Network:
    """The network without any identity left: every zero tensor is drawn."""
    return redraw_zeros(network, scale)


def require_frozen_base(network: GuidedNetwork, predict: Callable[[], Tensor], steps: int = 3) -> None:
    """Train for some steps: every tensor is reached by then, and not a bit of the base has moved."""
    network.train()
    before = {name: tensor.clone() for name, tensor in network.unet.state_dict().items()}
    trained = parameters(network)
    start = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-3, weight_decay=0.0, fused=True)
    target = torch.randn(predict().shape, generator=torch.Generator().manual_seed(9))
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        (predict() - target).square().mean().backward()
        optimizer.step()
    assert not network.unet.training
    assert all(torch.equal(network.unet.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(p.grad is None and not p.requires_grad for p in network.unet.parameters())
    assert [name for name, p in trained.items() if torch.equal(p, start[name])] == []


def require_round_trip(
    network: GuidedNetwork, other: GuidedNetwork, predict: Callable[[GuidedNetwork], Tensor], folder: Path
) -> None:
    """One file of side modules and a plain UNet make another network predict the same bits."""
    state = nn.ModuleDict(network.trainable()).state_dict()
    assert not any(name.startswith("unet.") for name in state)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "side.safetensors")
    assert not torch.equal(predict(network), predict(other))
    other.unet.load_state_dict(network.unet.state_dict())
    nn.ModuleDict(other.trainable()).load_state_dict(load_file(folder / "side.safetensors"), strict=True)
    assert torch.equal(predict(network), predict(other))
