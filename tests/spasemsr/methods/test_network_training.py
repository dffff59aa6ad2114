"""What trains and what does not: gradient sets, the frozen base, lambda's reach, checkpointing, files, variants."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from spasemsr.diffusion.base import build_unet
from spasemsr.methods.spasemsr.constraint import semantic_degradation_loss
from spasemsr.methods.spasemsr.network import SpaSemNetwork
from spasemsr.methods.spasemsr.spec import ModelSpec
from tests.worlds.guided import parameters
from tests.worlds.small_networks import LATENTS, PICO, TEXT, pico_network, random_condition, random_inputs, redraw_zeros

TENSORS = 1370


def _losses(network, condition, inputs, weight=0.05, lambda_=0.5):
    """Eq. 11 and the weighted halves of eq. 9."""
    encoded = network.encode(inputs["lr_up"], condition)
    prediction = network.predict(inputs["latents"], inputs["timesteps"], encoded)
    noise = (prediction.sample - inputs["noise"]).square().mean()
    halves = semantic_degradation_loss(
        prediction.residuals, inputs["latents_ref"], inputs["features_ref"], network.heads, lambda_
    )
    return noise, weight * sum(halves.values())


def _with_gradient(network) -> set[str]:
    return {name for name, p in parameters(network).items() if p.grad is not None and p.grad.any()}


def test_the_first_backward_reaches_what_the_zero_projections_let_through():
    network = pico_network()
    sum(_losses(network, random_condition(), random_inputs())).backward()
    names = parameters(network)
    assert len(names) == TENSORS
    expected = {name for name in names if name.startswith(("controlnet.controlnet_",))}
    expected |= {name for name in names if name.startswith("heads.") and name.endswith(".bias")}
    expected |= {name for name in names if name.startswith(("spatext.", "semimg.")) and ".proj_out." in name}
    assert len(expected) == 26 + 26 + 32 + 24
    assert _with_gradient(network) == expected
    assert all(p.grad is None for p in network.unet.parameters())


def test_gradients_reach_every_trained_tensor_once_nothing_is_zero():
    network = redraw_zeros(pico_network())
    sum(_losses(network, random_condition(), random_inputs())).backward()
    assert sorted(set(parameters(network)) - _with_gradient(network)) == []
    assert all(p.grad is None for p in network.unet.parameters())


def test_everything_trains_by_the_third_step_and_the_base_stays_frozen():
    network = pico_network()
    before = {name: tensor.clone() for name, tensor in network.unet.state_dict().items()}
    condition, inputs = random_condition(), random_inputs()
    optimizer = torch.optim.AdamW(parameters(network).values(), lr=1e-3, fused=True)
    reached = []
    for _ in range(3):
        sum(_losses(network, condition, inputs)).backward()
        reached.append(len(_with_gradient(network)))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert reached == [108, 946, TENSORS]  # the delay of zero projections in series
    after = network.unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(p.grad is None and not p.requires_grad for p in network.unet.parameters())
    assert not network.unet.training
    assert network.control.training


def test_the_base_trains_when_the_spec_says_so():
    network = pico_network(train_base=True)
    assert len(parameters(network)) == TENSORS + 686
    condition, inputs = random_condition(), random_inputs()
    with torch.no_grad():
        base = network.unet(inputs["latents"], inputs["timesteps"], condition.base_BLD).sample
        encoded = network.encode(inputs["lr_up"], condition)
        assert torch.equal(network.predict(inputs["latents"], inputs["timesteps"], encoded).sample, base)
    sum(_losses(network, condition, inputs)).backward()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in network.unet.parameters()) > 600
    assert network.unet.training
    assert not network.eval().unet.training


@pytest.mark.parametrize(("lambda_", "silent"), [(0.0, "sem"), (1.0, "img")])
def test_lambda_at_its_limits_through_the_whole_network(lambda_, silent):
    network = redraw_zeros(pico_network())
    condition, inputs = random_condition(), random_inputs()
    encoded = network.encode(inputs["lr_up"], condition)
    residuals = network.predict(inputs["latents"], inputs["timesteps"], encoded).residuals
    for residual in residuals:
        residual.retain_grad()
    sum(
        semantic_degradation_loss(
            residuals, inputs["latents_ref"], inputs["features_ref"], network.heads, lambda_
        ).values()
    ).backward()
    for residual in residuals:
        image, semantic = residual.grad.chunk(2, dim=1)
        assert not (semantic if silent == "sem" else image).any()
        assert (image if silent == "sem" else semantic).any()
    assert all(p.grad is None or not p.grad.any() for p in getattr(network.heads, silent).parameters())


def test_weight_zero_leaves_the_noise_loss_alone():
    network = redraw_zeros(pico_network())
    condition, inputs = random_condition(), random_inputs()
    sum(_losses(network, condition, inputs, weight=0.0)).backward()
    with_zero_weight = {name: p.grad for name, p in parameters(network).items()}
    network.zero_grad(set_to_none=True)
    _losses(network, condition, inputs)[0].backward()
    for name, p in parameters(network).items():
        if name.startswith("heads."):
            assert p.grad is None
            assert not with_zero_weight[name].any()
        else:
            assert torch.equal(p.grad, with_zero_weight[name]), name


def test_gradient_checkpointing_changes_neither_losses_nor_gradients():
    network = redraw_zeros(pico_network())
    condition, inputs = random_condition(), random_inputs()
    results = []
    for network.gradient_checkpointing in (False, True):
        network.zero_grad(set_to_none=True)
        losses = _losses(network, condition, inputs)
        sum(losses).backward()
        results.append((losses, {name: p.grad.clone() for name, p in parameters(network).items()}))
    (plain, gradients), (recomputed, others) = results
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)


def test_checkpointing_keeps_fewer_activations():
    kept = []
    for checkpointing in (False, True):
        network = redraw_zeros(pico_network())
        network.gradient_checkpointing = checkpointing
        stored = 0

        def pack(tensor):
            nonlocal stored
            stored += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            _losses(network, random_condition(), random_inputs())
        kept.append(stored)
    assert kept[1] < 0.6 * kept[0]


def test_one_file_and_a_plain_unet_rebuild_the_network(tmp_path):
    network = redraw_zeros(pico_network()).eval()
    network.unet.save_pretrained(tmp_path / "unet")
    state = nn.ModuleDict(network.trainable()).state_dict()
    assert len(state) == TENSORS
    assert {name.split(".")[0] for name in state} == {
        "controlnet", "deg", "spasem", "inject", "e_img", "e_sem", "heads", "fusion", "spatext", "semimg",
    }  # fmt: skip
    save_file(state, tmp_path / "side.safetensors")

    from diffusers import UNet2DConditionModel

    torch.manual_seed(99)  # the rebuilt network starts from other random weights
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    rebuilt = SpaSemNetwork(unet, ModelSpec.model_validate(PICO), 8).eval()
    nn.ModuleDict(rebuilt.trainable()).load_state_dict(load_file(tmp_path / "side.safetensors"), strict=True)
    condition, inputs = random_condition(), random_inputs(2, 12, 20)
    with torch.no_grad():
        one, other = (
            n.predict(inputs["latents"], inputs["timesteps"], n.encode(inputs["lr_up"], condition)).sample
            for n in (network, rebuilt)
        )
    assert torch.equal(one, other)


def test_the_four_variants_differ_by_heads_and_fusion_alone():
    variants = {
        "ours": {},
        "w/o-semantic": {"constraint": {"sem": False}},
        "w/o-vae": {"constraint": {"img": False}},
        "w/o-spatial": {"spatial": {"boxes": False}},
    }
    condition, inputs = random_condition(), random_inputs(2, 8, 8)
    names = {}
    for variant, changes in variants.items():
        network = pico_network(**changes)
        names[variant] = set(parameters(network))
        losses = _losses(network, condition, inputs)
        sum(losses).backward()
        assert all(loss.isfinite() for loss in losses)
        assert losses[1] > 0
    ours = names["ours"]
    heads = {part: {name for name in ours if name.startswith(f"heads.{part}.")} for part in ("img", "sem")}
    assert (len(heads["img"]), len(heads["sem"])) == (26, 26)
    assert names["w/o-semantic"] == ours - heads["sem"]
    assert names["w/o-vae"] == ours - heads["img"]
    assert names["w/o-spatial"] == {name for name in ours if not name.startswith("fusion.")}
    assert len(ours) - len(names["w/o-spatial"]) == 8
    neither = pico_network(constraint={"img": False, "sem": False})
    assert "heads" not in neither.trainable()


def test_more_latent_channels_change_only_what_touches_latents():
    """48 channels are the embedded profile's block-DCT latents."""
    spec = ModelSpec.model_validate(PICO)
    shapes = []
    for latents in (LATENTS, 48):
        network = SpaSemNetwork(build_unet(spec.unet, latents, TEXT), spec, 8)
        shapes.append({name: p.shape for name, p in parameters(network).items()})
    differing = {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    assert differing == {"controlnet.conv_in.weight"} | {n for n in shapes[0] if n.startswith("heads.img.")}


def test_four_samples_can_be_learned():
    network = pico_network()
    condition, inputs = random_condition(batch=4), random_inputs(4, 8, 8)
    # What a photograph gives: references the network can see in the LR, instead of noise.
    inputs["latents_ref"] = nn.functional.interpolate(inputs["lr_up"], (8, 8)).repeat(1, 2, 1, 1)[:, :LATENTS]
    optimizer = torch.optim.AdamW(parameters(network).values(), lr=1e-2, fused=True)
    curve = []
    for _ in range(32):
        noise, semantic = _losses(network, condition, inputs)
        optimizer.zero_grad(set_to_none=True)
        (noise + semantic).backward()
        optimizer.step()
        curve.append((noise.item(), semantic.item()))
    quarters = [sum(n for n, _ in curve[i : i + 8]) / 8 for i in (0, 8, 16, 24)]
    assert quarters == sorted(quarters, reverse=True), quarters
    assert quarters[-1] < 0.5 * quarters[0], quarters
    assert curve[-1][1] < 0.5 * curve[0][1], (curve[0], curve[-1])
