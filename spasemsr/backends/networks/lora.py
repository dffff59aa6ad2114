"""Low-rank adaptation: a frozen linear layer plus a product of two thin ones, which starts as the layer itself.

Students of degraded images are their frozen teachers with this in chosen layers. When trained, the product is added to
the weights, so that a student is stored in its teacher's own layout.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """W x + b + B A x, A (rank, in) drawn, B (out, rank) zero; W and b are frozen."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = (
            nn.Linear(base.in_features, rank, bias=False),
            nn.Linear(rank, base.out_features, bias=False),
        )
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.base(x) + self.up(self.down(x))

    @torch.no_grad()
    def merged(self) -> Tensor:
        """W + B A, (out, in)."""
        return self.base.weight + self.up.weight @ self.down.weight


def add_lora(network: nn.Module, rank: int, chosen: Callable[[str], bool]) -> dict[str, LoraLinear]:
    """Put adaptations in the place of the linear layers whose names are chosen; returns them by name.

    Everything else of the network is frozen. Raises ValueError where nothing is chosen, which is a wrong name.
    """
    network.requires_grad_(False)
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and chosen(name)]
    if not names:
        raise ValueError("no linear layer has a chosen name")
    added = {}
    for name in names:
        parent_name, _, own = name.rpartition(".")
        parent = network.get_submodule(parent_name)
        added[name] = LoraLinear(parent.get_submodule(own), rank)
        if isinstance(parent, nn.ModuleDict):
            parent[own] = added[name]
        else:
            setattr(parent, own, added[name])
    return added


def merged_state(network: nn.Module, added: dict[str, LoraLinear]) -> dict[str, Tensor]:
    """The network's tensors under the names they have without adaptations, with these added to the weights."""
    state = {}
    for name, tensor in network.state_dict().items():
        owner = next((own for own in added if name.startswith(f"{own}.")), None)
        if owner is None:
            state[name] = tensor
        elif name.endswith(".base.weight"):
            state[f"{owner}.weight"] = added[owner].merged()
        elif name.endswith(".base.bias"):
            state[f"{owner}.bias"] = tensor
    return state


def thin_layers(added: dict[str, LoraLinear]) -> nn.ModuleDict:
    """What learns, as one module: the thin layers, by the name of the layer they adapt."""
    thin = {
        name.replace(".", "/"): nn.ModuleDict({"down": layer.down, "up": layer.up}) for name, layer in added.items()
    }
    return nn.ModuleDict(thin)
