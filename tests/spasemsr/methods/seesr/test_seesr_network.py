"""SeeSR's network: exact sizes, the base UNet at the start, what trains, files, and what each prompt changes."""

import pytest
import torch

from spasemsr.diffusion.base import build_unet
from spasemsr.methods.seesr.network import Encoded, SeeSRNetwork
from spasemsr.methods.seesr.spec import SeeSRSpec
from tests.worlds.guided import (
    LATENTS,
    TEXT,
    UNET,
    parameters,
    random_latents,
    redraw,
    require_frozen_base,
    require_round_trip,
)

SOFT = 12
SPEC = {"unet": UNET, "hint_channels": (4, 8, 8, 16)}


def _network(seed=0, **changes) -> SeeSRNetwork:
    torch.manual_seed(seed)
    spec = SeeSRSpec.model_validate(SPEC | changes)
    return SeeSRNetwork(build_unet(spec.unet, LATENTS, TEXT), spec, SOFT).eval()


def _encoded(height=16, width=16, seed=5) -> Encoded:
    draw = torch.Generator().manual_seed(seed)
    return Encoded(
        torch.rand(2, 3, 8 * height, 8 * width, generator=draw),
        torch.randn(2, 6, TEXT, generator=draw),
        torch.randn(2, 9, SOFT, generator=draw),
    )


@torch.no_grad()
def _predict(network, encoded, height=16, width=16):
    return network.predict(*random_latents(height, width), encoded)


def test_paper_scale_sizes():
    spec = SeeSRSpec()
    with torch.device("meta"):
        network = SeeSRNetwork(build_unet(spec.unet, 4, 1024), spec, 512)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in network.trainable().items()}
    assert sizes == {"controlnet": 364_228_240, "control_rca": 124_803_200, "rca": 260_849_600}
    assert sum(sizes.values()) == 749_881_040
    assert len(network.unet.state_dict()) == 686  # SD's own tensors under SD's own names
    assert (len(network.control_rca), len(network.rca)) == (7, 16)


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (9, 8)])
def test_the_start_is_the_base_unet_bit_for_bit(size):
    network, encoded = _network(), _encoded(*size)
    latents, timesteps = random_latents(*size)
    with torch.no_grad():
        base = network.unet(latents, timesteps, encoded.hard_BLD).sample
    assert torch.equal(_predict(network, encoded, *size), base)


def test_each_rca_of_the_controlnet_starts_as_the_unets():
    network = _network()
    for copy, source in zip(network.control_rca, network.rca, strict=False):
        assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in copy.state_dict().items())


def test_gradients_reach_every_trained_tensor_once_nothing_is_zero():
    network = redraw(_network())
    network.predict(*random_latents(), _encoded()).square().mean().backward()
    silent = [name for name, p in parameters(network).items() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_base_stays_frozen():
    network, encoded = _network(), _encoded()
    require_frozen_base(network, lambda: network.predict(*random_latents(), encoded))


def test_one_file_and_a_plain_unet_rebuild_the_network(tmp_path):
    require_round_trip(redraw(_network()), _network(seed=7), lambda n: _predict(n, _encoded()), tmp_path)


def test_both_prompts_and_the_image_change_the_prediction():
    network, encoded = redraw(_network(), 0.2), _encoded()
    other, sample = _encoded(seed=6), _predict(network, encoded)
    for field in ("lr_up_B3HW", "hard_BLD", "soft_BRK"):
        changed = Encoded(**(vars(encoded) | {field: getattr(other, field)}))
        assert (_predict(network, changed) - sample).abs().max() > 1e-4, field


def test_the_order_of_the_soft_prompts_rows_does_not_matter():
    network, encoded = redraw(_network(), 0.2), _encoded()
    permuted = Encoded(encoded.lr_up_B3HW, encoded.hard_BLD, encoded.soft_BRK.flip(1))
    assert (_predict(network, permuted) - _predict(network, encoded)).abs().max() < 1e-5


def test_a_batch_of_two_is_two_batches_of_one():
    network, encoded = redraw(_network(), 0.2), _encoded()
    latents, timesteps = random_latents()
    with torch.no_grad():
        parts = [Encoded(*(tensor[i : i + 1] for tensor in vars(encoded).values())) for i in range(2)]
        rows = [network.predict(latents[i : i + 1], timesteps[i : i + 1], parts[i]) for i in range(2)]
    assert (torch.cat(rows) - _predict(network, encoded)).abs().max() < 1e-5


def test_without_rca_the_soft_prompt_is_not_read():
    network = redraw(_network(rca=False), 0.2)
    assert set(network.trainable()) == {"controlnet"}
    sample = _predict(network, _encoded())
    silent = Encoded(_encoded().lr_up_B3HW, _encoded().hard_BLD, torch.full((2, 9, SOFT), torch.nan))
    assert torch.equal(_predict(network, silent), sample)


def test_gradient_checkpointing_changes_no_gradient():
    network, encoded = redraw(_network()), _encoded()
    gradients = []
    for network.gradient_checkpointing in (False, True):
        network.zero_grad(set_to_none=True)
        network.predict(*random_latents(), encoded).square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in parameters(network).items()})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
