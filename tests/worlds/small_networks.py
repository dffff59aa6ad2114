"""Small networks and random conditions for tests of methods and diffusion: the paper's topology, tiny widths.

Text is random here: what the network does must not depend on what the text encoder says.
"""

import torch
from torch import Tensor

from spasemsr.diffusion.base import build_unet
from spasemsr.methods.spasemsr.conditioning import Conditioning
from spasemsr.methods.spasemsr.network import SpaSemNetwork
from spasemsr.methods.spasemsr.spec import ModelSpec

LATENTS, TEXT, FEATURES = 4, 32, 8

PICO = {
    "unet": {
        "block_out_channels": (16, 24, 32, 32),
        "attention_heads": (2, 2, 2, 2),
        "norm_num_groups": 8,
        "sample_size": 8,
    },
    "encoders": {"hint_channels": (4, 8, 8, 16), "sem_blocks": 4},
    "objects": {"max": 5, "tokens": 4},
    "fusion_width": 32,
}


def pico_network(seed: int = 0, **changes: object) -> SpaSemNetwork:
    """The smallest network with every part; `changes` replace fields of its ModelSpec."""
    torch.manual_seed(seed)
    spec = ModelSpec.model_validate(PICO | changes)
    return SpaSemNetwork(build_unet(spec.unet, LATENTS, TEXT), spec, FEATURES)


def random_condition(batch: int = 2, objects: int = 5, tokens: int = 4, seed: int = 1) -> Conditioning:
    """Random text and boxes: a null object, then `objects` objects of which the last two are masked in sample 0."""
    draw = torch.Generator().manual_seed(seed)
    total = objects + 1
    lengths = torch.randint(1, tokens + 1, (batch, total), generator=draw)
    lengths[:, 0] = 2
    if objects > 2:
        lengths[0, -2:] = 0
    mask = torch.arange(tokens).expand(batch, total, tokens) < lengths.unsqueeze(-1)
    corners = torch.rand(batch, total, 2, 2, generator=draw).sort(dim=2).values
    boxes = corners.flatten(2)
    boxes[:, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    return Conditioning(
        base_BLD=torch.randn(batch, 6, TEXT, generator=draw),
        caption_BLD=torch.randn(batch, 6, TEXT, generator=draw),
        tokens_BNGD=torch.randn(batch, total, tokens, TEXT, generator=draw),
        token_mask_BNG=mask,
        pooled_BND=torch.randn(batch, total, TEXT, generator=draw),
        boxes_BN4=boxes,
        use_boxes_B=torch.ones(batch, dtype=torch.bool),
    )


def random_inputs(batch: int = 2, height: int = 16, width: int = 16, seed: int = 2) -> dict[str, Tensor]:
    """Noisy latents, two timesteps, an LR at HR size, and what a training step compares with."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "latents": torch.randn(batch, LATENTS, height, width, generator=draw),
        "timesteps": torch.tensor([37, 812, 401, 5])[:batch],
        "lr_up": torch.rand(batch, 3, 8 * height, 8 * width, generator=draw),
        "noise": torch.randn(batch, LATENTS, height, width, generator=draw),
        "latents_ref": torch.randn(batch, LATENTS, height, width, generator=draw),
        "features_ref": torch.randn(batch, FEATURES, height, width, generator=draw),
    }


def redraw_zeros(network: SpaSemNetwork, scale: float = 0.02, seed: int = 3) -> SpaSemNetwork:
    """Redraw every all-zero trained tensor from N(0, scale^2), so that nothing is an identity any more."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in network.trainable().values():
            for tensor in part.parameters():
                if not tensor.any():
                    tensor.copy_(scale * torch.randn(tensor.shape, generator=draw))
    return network
