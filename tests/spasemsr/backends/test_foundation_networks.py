"""The pretrained base, its autoencoder and its text encoder, on tiny checkpoints in the real layouts."""

import logging

import numpy as np
import pytest
import torch

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.networks.runtime import compute
from spasemsr.backends.text_encoder import build_text_encoder
from spasemsr.data.columns import LATENTS
from spasemsr.diffusion.base import require_topology
from spasemsr.diffusion.pretrained import load_base
from spasemsr.diffusion.spec import PretrainedBaseSpec, ScheduleSpec, UNetSpec
from spasemsr.errors import UserError
from spasemsr.methods import method
from tests.worlds.photographs import photograph
from tests.worlds.tiny_checkpoints import (
    HIDDEN,
    edit_tensors,
    write_stable_diffusion,
)

A, B = photograph("astronaut", 128), photograph("coffee", 128)


def own(profile):
    """The section of the method that these models serve."""
    return profile.methods["spasemsr"]


def test_autoencoder_kl(profile):
    autoencoder = build_autoencoder(profile.autoencoder)
    assert (autoencoder.channels, autoencoder.downscale, autoencoder.scaling_factor) == (4, 8, 0.18215)
    images = torch.from_numpy(np.stack([A, B])).permute(0, 3, 1, 2).float() / 255
    moments = autoencoder.moments(images)
    LATENTS.member("moments.npy").encode(moments[0].half().numpy())
    assert moments.shape == (2, 8, 16, 16)
    assert torch.allclose(autoencoder.moments(images[1:]), moments[1:], atol=1e-5)
    decoded = autoencoder.decode(moments[:, :4])
    assert decoded.shape == images.shape and decoded.min() >= 0 and decoded.max() <= 1
    assert torch.allclose(autoencoder.decode(moments[:1, :4]), decoded[:1], atol=1e-5)
    with pytest.raises(ValueError, match="multiples of 8"):
        autoencoder.moments(images[..., :100])


def test_autoencoder_tiles_above_1024_px_only(profile):
    autoencoder = build_autoencoder(profile.autoencoder)
    images = torch.from_numpy(np.tile(A, (1, 9, 1))).permute(2, 0, 1)[None].float() / 255
    assert autoencoder.moments(images).shape == (1, 8, 16, 144)
    model = autoencoder._model
    assert (model.use_tiling, model.tile_sample_min_size, model.tile_latent_min_size) == (True, 1024, 128)


def test_fp16_overflow_costs_time_but_never_becomes_data(profile, tiny, tmp_path, caplog):
    """The decoder's last weights are too large for float16, as SD's activations are; float32 holds them."""
    import shutil

    shutil.copytree(tiny / "sd" / "vae", tmp_path / "vae")

    def enlarge(tensors: dict) -> dict:
        return tensors | {"decoder.conv_out.weight": 1e6 * tensors["decoder.conv_out.weight"]}

    edit_tensors(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", enlarge)
    specs = [
        profile.autoencoder.model_copy(update={"source": str(tmp_path), "precision": precision})
        for precision in ("fp16", "fp32")
    ]
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        half, full = (build_autoencoder(spec).decode(latents) for spec in specs)
    assert torch.equal(half, full)
    assert caplog.text.count("computed again in fp32") == 2


def test_only_the_sample_that_overflowed_is_computed_again():
    inputs = torch.tensor([[1.0], [1e30], [2.0]])
    calls = []

    def network(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return (x if len(x) > 1 else x.clamp(max=9.0)) * (1e10 if len(x) > 1 else 1.0)

    assert compute(network, inputs, torch.device("cpu"), "fp32", "test").flatten().tolist() == [1e10, 9.0, 2e10]
    assert calls == [3, 1]
    with pytest.raises(FloatingPointError, match="in fp32 either"):
        compute(lambda x: x * float("nan"), inputs, torch.device("cpu"), "bf16", "test")


def test_clip_text_takes_eos_from_the_attention_mask(profile):
    encoder = build_text_encoder(profile.text_encoder)
    assert (encoder.width, encoder.length) == (HIDDEN, 77)
    states = encoder.encode(["", "cat!", "x" * 300])
    assert states.states_BLD.shape == (3, 77, HIDDEN) and states.states_BLD.dtype == torch.float32
    assert states.mask_BL.sum(dim=1).tolist() == [2, 6, 77]  # "!" is the padding token, and a word here
    assert torch.allclose(encoder.encode(["cat!"]).states_BLD, states.states_BLD[1:2], atol=1e-5)
    tokenizer = encoder._tokenizer
    ids = tokenizer("cat!", padding="max_length", max_length=77)["input_ids"]
    last = int(states.mask_BL[1].sum()) - 1
    assert ids[last] == tokenizer.eos_token_id and tokenizer.pad_token_id == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_in_bf16_reads_the_text_as_sampling_does(profile, precision):
    encoder = build_text_encoder(profile.text_encoder.model_copy(update={"precision": precision}))
    alone = encoder.encode(["a cat"]).states_BLD
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.encode(["a cat"]).states_BLD, alone)


def test_weights_follow_the_module_to_its_device(profile):
    encoder = build_text_encoder(profile.text_encoder).to("meta")
    assert encoder._place.device.type == "meta"
    encoder = build_text_encoder(profile.text_encoder)
    encoder.encode(["a"])
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_base_of_stable_diffusion_1_5_becomes_linear_without_changing_its_function(profile, tmp_path):
    from diffusers import UNet2DConditionModel

    write_stable_diffusion(tmp_path, linear_projection=False)
    base = PretrainedBaseSpec(kind="pretrained", source=str(tmp_path))
    unet = load_base(base, own(profile).model.unet, ScheduleSpec(), 4, HIDDEN)
    require_topology(unet)
    original = UNet2DConditionModel.from_pretrained(tmp_path / "unet").eval()
    assert original.config.use_linear_projection is False
    inputs = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 77, HIDDEN)
    with torch.no_grad():
        assert torch.allclose(unet(*inputs).sample, original(*inputs).sample, atol=1e-5)


def test_base_of_stable_diffusion_2_1_keeps_every_tensor(profile, tiny):
    from diffusers import UNet2DConditionModel

    unet = load_base(own(profile).model.base, own(profile).model.unet, own(profile).model.schedule, 4, HIDDEN)
    require_topology(unet)
    original = UNet2DConditionModel.from_pretrained(tiny / "sd" / "unet").state_dict()
    assert len(original) == 686
    assert all(torch.equal(tensor, original[name]) for name, tensor in unet.state_dict().items())


def test_a_base_must_agree_with_params(profile, tiny, tmp_path):
    model = own(profile).model
    write_stable_diffusion(tmp_path, prediction="v_prediction")
    v = PretrainedBaseSpec(kind="pretrained", source=str(tmp_path))
    assert load_base(v, model.unet, ScheduleSpec(prediction="v_prediction"), 4, HIDDEN) is not None
    with pytest.raises(UserError, match=r"prediction_type = 'epsilon', but .* has 'v_prediction'"):
        load_base(v, model.unet, model.schedule, 4, HIDDEN)
    with pytest.raises(UserError, match=r"model\.unet\.attention_heads is \[4, 4, 4, 4\], but .* has \[2, 2, 2, 2\]"):
        wider = UNetSpec.model_validate({**model.unet.plain(), "attention_heads": [4, 4, 4, 4]})
        load_base(model.base, wider, model.schedule, 4, HIDDEN)
    with pytest.raises(UserError, match="the text encoder's width is 64"):
        load_base(model.base, model.unet, model.schedule, 4, 64)
    with pytest.raises(UserError, match="the autoencoder's channels is 48"):
        load_base(model.base, model.unet, model.schedule, 48, HIDDEN)


def test_the_method_stands_on_the_pretrained_base(params, profile, tiny):
    from diffusers import UNet2DConditionModel

    face = method("spasemsr")
    built = face.build(face.describe(params.ingredients("spasemsr"), {}))
    original = UNet2DConditionModel.from_pretrained(tiny / "sd" / "unet").state_dict()
    unet = built.network.unet
    assert all(torch.equal(tensor, original[name]) for name, tensor in unet.state_dict().items())
    assert not any(parameter.requires_grad for parameter in unet.parameters())
    assert "unet" not in built.trainable()
