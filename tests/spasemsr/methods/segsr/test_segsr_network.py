"""SegSR's network: exact sizes, the base UNet at the start, what trains, files, and both directions of the bridge."""

from dataclasses import replace

import pytest
import torch

from spasemsr.diffusion.base import build_unet
from spasemsr.methods.segsr.bridge import SegController
from spasemsr.methods.segsr.denoiser import LabelDenoiser
from spasemsr.methods.segsr.labels import as_carry
from spasemsr.methods.segsr.network import Encoded, SegSRNetwork
from spasemsr.methods.segsr.spec import SegSRSpec
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

FEATURES, CLASSES, STEPS = 8, 6, 1000
SPEC = {"unet": UNET, "segments": {"width": 16, "embedding": 4, "stem": 8}}


def _network(seed=0, **changes) -> SegSRNetwork:
    torch.manual_seed(seed)
    spec = SegSRSpec.model_validate(SPEC | changes)
    return SegSRNetwork(build_unet(spec.unet, LATENTS, TEXT), spec, FEATURES, CLASSES).eval()


def _inputs(height=16, width=16, seed=5):
    draw = torch.Generator().manual_seed(seed)
    segments = as_carry(torch.randint(CLASSES, (2, height, width), generator=draw), CLASSES)
    encoded = Encoded(
        torch.randn(2, LATENTS, height, width, generator=draw),
        torch.randn(2, 6, TEXT, generator=draw),
        torch.randn(2, FEATURES, height, width, generator=draw),
        torch.ones(2, dtype=torch.bool),
    )
    return segments, encoded


def _both(network, height=16, width=16, seed=5):
    """The prediction of the image and that of the labels."""
    segments, encoded = _inputs(height, width, seed)
    latents, timesteps = random_latents(height, width)
    image = network.predict(segments, latents, timesteps, encoded)
    return image, network.labels(segments, latents, timesteps, STEPS, encoded.features_BFhw)


def _size(module):
    return sum(p.numel() for p in module.parameters())


def test_paper_scale_sizes():
    with torch.device("meta"):
        controller = SegController(34, 16, (320, 640, 1280, 1280))
        assert _size(controller.enter) + _size(controller.levels) == 76_862_400
        assert _size(LabelDenoiser(528, 256)) == 44_020_480
        assert _size(LabelDenoiser(272, 256)) == 40_809_216
        spec = SegSRSpec()
        network = SegSRNetwork(build_unet(spec.unet, 4, 1024), spec, 256, 34)
    assert len(network.unet.state_dict()) == 686  # SD's own tensors under SD's own names
    assert _size(network.head) == 256 * 34 + 34
    assert _size(network.control) == 363_141_760 + 4 * 320 + 320


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (9, 8)])
def test_the_start_is_the_base_unet_bit_for_bit(size):
    network, (segments, encoded) = _network(), _inputs(*size)
    latents, timesteps = random_latents(*size)
    with torch.no_grad():
        base = network.unet(latents, timesteps, encoded.text_BLD).sample
        assert torch.equal(network.predict(segments, latents, timesteps, encoded), base)
        assert network.labels(segments, latents, timesteps, STEPS, encoded.features_BFhw).shape == (2, CLASSES, *size)


def test_the_label_diffusion_starts_as_if_there_were_no_image():
    network, (segments, encoded) = _network(), _inputs()
    latents, timesteps = random_latents()
    with torch.no_grad():
        answers = [
            network.labels(segments, z, timesteps, STEPS, encoded.features_BFhw) for z in (latents, latents.flip(-1))
        ]
    assert torch.equal(*answers)


def test_gradients_reach_every_trained_tensor_once_nothing_is_zero():
    network = redraw(_network())
    image, logits = _both(network)
    (image.square().mean() + logits.square().mean()).backward()
    silent = [name for name, p in parameters(network).items() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_base_stays_frozen():
    network = _network()
    require_frozen_base(network, lambda: torch.cat([part.flatten(1) for part in _both(network)], dim=1))


def test_one_file_and_a_plain_unet_rebuild_the_network(tmp_path):
    def predict(network):
        with torch.no_grad():
            return torch.cat([part.flatten(1) for part in _both(network)], dim=1)

    require_round_trip(redraw(_network()), _network(seed=7), predict, tmp_path)


def test_each_direction_of_the_bridge_acts():
    network, (segments, encoded) = redraw(_network(), 0.2), _inputs()
    latents, timesteps = random_latents()
    with torch.no_grad():
        image = network.predict(segments, latents, timesteps, encoded)
        relabelled = network.predict(segments.roll(1, 1), latents, timesteps, encoded)
        labels = network.labels(segments, latents, timesteps, STEPS, encoded.features_BFhw)
        reimaged = network.labels(segments, latents.roll(3, 2), timesteps, STEPS, encoded.features_BFhw)
        hidden = replace(encoded, shown_B=torch.tensor([True, False]))
        partly = network.predict(segments, latents, timesteps, hidden)
        unlabelled = network.predict(None, latents, timesteps, encoded)
    assert (image - relabelled).abs().max() > 1e-4
    assert (labels - reimaged).abs().max() > 1e-4
    assert torch.allclose(partly[0], image[0], atol=1e-6)  # a sample whose labels are dropped is as without any
    assert torch.allclose(partly[1], unlabelled[1], atol=1e-6)
    assert (partly[1] - image[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, {"seg_controller", "label_embed", "label_denoiser", "label_head", "image_aid"}),
        ({"to_labels": False}, {"seg_controller", "label_embed", "label_denoiser", "label_head"}),
        ({"to_image": False}, {"label_embed", "label_denoiser", "label_head", "image_aid"}),
        ({"labels": "lr"}, {"seg_controller"}),
        ({"labels": "hr"}, {"seg_controller"}),
        ({"labels": "none"}, set()),
    ],
)
def test_the_rows_of_table_2_are_these_parts(changes, kept):
    assert set(_network(**changes).trainable()) == kept | {"controlnet"}
