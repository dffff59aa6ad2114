"""Strings, boxes and drops of SpaSemSR; its losses; restoring: guidance, tiles, seeds, sizes; the baselines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from spasemsr.backends.autoencoder.block_dct import BlockDCT
from spasemsr.backends.autoencoder.spec import BlockDCTSpec
from spasemsr.backends.networks.stlpips import load_stlpips
from spasemsr.diffusion.spec import ScheduleSpec
from spasemsr.errors import UserError
from spasemsr.methods.noise import Noise
from spasemsr.methods.prompts import tag_prompt
from spasemsr.methods.spasemsr.method import Drops
from spasemsr.methods.spasemsr.spec import DropSpec
from spasemsr.pixels import bicubic_upsample
from tests.worlds.small_methods import MANY, NONE, TWO, objects_of, rows_of, sampling, small_batch, small_method

NOISE, PLAIN = Noise(7, 0), sampling()


def training_condition(method, batch):
    return method.training_condition(batch, NOISE, torch.zeros(len(batch.keys), 4, 8, 8), torch.zeros(len(batch.keys)))


@pytest.fixture(scope="module")
def method():
    return small_method()


def states(method, text):
    encoded = method.text_encoder.encode([text])
    return encoded.states_BLD[0], int(encoded.mask_BL.sum())


# Conditions


def test_objects_become_the_rows_of_their_own_tag(method):
    cond, alone = (method.condition(small_batch(keys, training=False), PLAIN) for keys in ("ab", "a"))
    assert cond.tokens_BNGD.shape == (2, 6, 4, 32)
    assert torch.equal(alone.tokens_BNGD, cond.tokens_BNGD[:1, :3])  # alone, no row waits for others' objects
    assert cond.token_mask_BNG[0].sum(1).tolist() == [2, 3, 2, 0, 0, 0]  # BOS EOS; red car EOS; sky EOS
    null, length = states(method, "")
    assert torch.equal(cond.tokens_BNGD[0, 0, :2], null[:2])
    assert length == 2
    car, length = states(method, "red car")
    assert torch.equal(cond.tokens_BNGD[0, 1, :3], car[1:length])
    assert torch.equal(cond.pooled_BND[0, 1], car[length - 1])
    assert not cond.tokens_BNGD[0, 3:].any()
    assert cond.boxes_BN4[0, 0].tolist() == [0, 0, 1, 1]
    assert np.array_equal(cond.boxes_BN4[0, 1:3].numpy(), TWO.boxes)
    assert cond.use_boxes_B.tolist() == [True, True]


RESIDUAL = {"schedule": {"prediction": "residual"}}


def silenced():
    """A method whose network says nothing, and predicts what is missing from bicubic lr."""
    method = small_method(**RESIDUAL)
    for parameter in method.network.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    return method


@pytest.mark.parametrize("solver", ["ddpm", "dpmpp"])
def test_a_residual_of_nothing_restores_bicubic(solver):
    method, batch = silenced(), small_batch(["a"], 40, 56)
    asked = sampling(solver=solver, start=0.3, steps=3, tile=16, tile_overlap=4, colorfix="none")
    lr_up = bicubic_upsample(batch.lr, 4).clamp(0, 1)  # all of it, also what the autoencoder has no room for
    assert torch.allclose(method.restore(batch, NOISE, asked), lr_up, atol=1e-5)


def test_a_model_that_is_shown_the_restored_image_starts_from_it():
    clean = small_batch(["x", "y"], 64, 64).lr
    batch = replace(small_batch(["a", "b"]), restored=clean)
    method, asked = small_method(input="restored", **RESIDUAL), sampling(colorfix="none", start=0.3)
    plain = small_method(**RESIDUAL)
    assert {"restored"} == method.columns - plain.columns == method.restore_columns - plain.restore_columns
    other = replace(batch, restored=clean.flip(3))
    assert method(batch, NOISE)["diffusion"] != method(other, NOISE)["diffusion"]  # E_img sees it, the base is it
    for parameter in method.network.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.allclose(method.restore(batch, NOISE, asked), clean, atol=1e-5)
    bicubic, asked = small_method(**RESIDUAL), sampling(colorfix="none")
    assert torch.equal(bicubic.restore(batch, NOISE, asked), bicubic.restore(other, NOISE, asked))  # it is shown lr


def test_a_share_of_the_samples_is_at_the_last_timestep():
    batch, counts = small_batch([f"k{index}" for index in range(400)], 8, 8), {}
    for share in (0.0, 0.5):
        timesteps = small_method(schedule={"last_share": share})._training_timesteps(batch, NOISE)
        assert timesteps.min() >= 0 and timesteps.max() <= 999
        counts[share] = (timesteps == 999).float().mean().item()
    assert counts[0.0] < 0.02 and counts[0.5] == pytest.approx(0.5, abs=0.1)


def test_the_residual_is_trained_on_what_bicubic_lacks():
    method, batch = silenced(), small_batch(["a", "b"])
    lr_latents = method._lr_latents(bicubic_upsample(batch.lr, 4))
    _, latents = method._training_latents(batch, NOISE)
    assert method(batch, NOISE)["diffusion"].item() == pytest.approx((latents - lr_latents).square().mean().item())


def test_one_step_is_judged_by_its_distance_to_hr():
    try:
        distance = load_stlpips()
    except UserError as error:
        pytest.skip(f"the extra `real` is not installed: {error.what}")
    schedule = {"prediction": "residual", "last_share": 0.5, "perceptual": 2.0}
    method, batch = small_method(schedule=schedule, train_base=True), small_batch([f"k{index}" for index in range(4)])
    for parameter in method.network.unet.conv_out.parameters():
        torch.nn.init.zeros_(parameter)  # one step gives what it is shown
    alone = method._training_timesteps(batch, NOISE) == 999
    assert 0 < alone.sum() < 4
    shown = bicubic_upsample(batch.lr, 4)
    latents = method._training_latents(batch, NOISE)[1]
    hr = shown + method._decoded(latents) - method._decoded(method._lr_latents(shown))
    expected = 2.0 * distance(shown[alone] * 2 - 1, distance.features(hr[alone] * 2 - 1)) * alone.float().mean()
    loss = method(batch, NOISE)["perceptual"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5) and loss > 0
    loss.backward()
    assert method.network.unet.conv_out.weight.grad.abs().max() > 0
    assert not any("convolutions" in name for name in method.state_dict())
    none = replace(batch, keys=[key for key, last in zip(batch.keys, alone, strict=True) if not last][:1] * 4)
    assert method(none, NOISE)["perceptual"] == 0


def test_what_is_judged_is_decoded_exactly_whatever_the_network_computes_in():
    schedule = {"prediction": "residual", "last_share": 0.5, "perceptual": 1.0}
    method = small_method(schedule=schedule)
    method.autoencoder = BlockDCT(BlockDCTSpec(kind="block_dct", keep=4))
    latents, shown = torch.randn(2, 48, 4, 4), torch.rand(2, 3, 32, 32)
    exact = method._image(latents, shown, method._lr_latents(shown))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(method._image(latents, shown, method._lr_latents(shown)), exact)


@pytest.mark.parametrize("schedule", [{"prediction": "epsilon", "last_share": 0.5}, {"prediction": "residual"}])
def test_a_perceptual_loss_needs_one_step_that_is_an_image(schedule):
    with pytest.raises(ValidationError, match="perceptual judges one step from the last timestep"):
        ScheduleSpec.model_validate(schedule | {"perceptual": 1.0})


def test_long_tags_keep_their_first_words_and_the_end(method):
    batch = replace(small_batch(["a"]), objects=[objects_of(("one two three four five", (0, 0, 1, 1), 1.0))])
    cond = method.condition(batch, PLAIN)
    rows, length = states(method, "one two three four five")
    assert torch.equal(cond.tokens_BNGD[0, 1], rows[[1, 2, 3, length - 1]])


def test_prompts_are_distinct_tags_with_the_positive_words_at_inference_only(method):
    assert tag_prompt(MANY) == "thing 0, thing 1, thing 2, thing 3"
    batch = small_batch(["a", "b"])
    training = training_condition(method, batch)
    assert torch.equal(training.base_BLD[0], states(method, "red car, sky")[0])
    assert torch.equal(training.base_BLD[1], states(method, "")[0])
    inference = method.condition(batch, PLAIN)
    assert torch.equal(inference.base_BLD[0], states(method, "red car, sky, clean, high-resolution, 8k")[0])
    assert torch.equal(inference.base_BLD[1], states(method, "clean, high-resolution, 8k")[0])
    assert torch.equal(inference.caption_BLD[0], states(method, "blurry, noisy")[0])


def test_too_many_objects_are_cut_to_the_best(method):
    cond = method.condition(small_batch(["c"]), PLAIN)
    assert cond.token_mask_BNG[0].any(1).all()
    assert np.array_equal(cond.boxes_BN4[0, 1:].numpy(), MANY.boxes[:5])


def test_without_boxes_equal_tags_are_merged_and_no_box_is_used():
    method = small_method(spatial={"boxes": False})
    cond = method.condition(small_batch(["c"]), PLAIN)
    assert cond.token_mask_BNG[0].any(1).tolist() == [True] * 5  # null and four distinct tags
    assert cond.use_boxes_B.tolist() == [False]
    moved = replace(small_batch(["c"]), objects=[replace(MANY, boxes=MANY.boxes[::-1].copy())])
    one, other = (method.restore(batch, NOISE, PLAIN) for batch in (small_batch(["c"]), moved))
    assert torch.equal(one, other)


def test_every_string_is_encoded_once(method):
    method.text_encoder.seen.clear()
    method.condition(small_batch(["a", "a", "c"]), PLAIN)
    (texts,) = method.text_encoder.seen
    assert len(texts) == len(set(texts))


def test_the_unconditional_branch_is_the_negative_words_alone(method):
    cond = method.unconditional(small_batch(["a", "c"]), PLAIN)
    assert cond.token_mask_BNG.any(2).tolist() == [[True] + [False] * 5] * 2
    assert torch.equal(cond.base_BLD[1], states(method, "dotted, noise, blur, lowres, smooth")[0])
    assert torch.equal(cond.caption_BLD[0], states(method, "")[0])


@pytest.mark.parametrize("drop", [{"text": 1, "caption": 1}, {"text": 0, "caption": 0, "together": 1}], ids=str)
def test_dropping_text_and_caption_gives_the_unconditional_inputs(drop):
    method = small_method(drop=drop | {"boxes": 0, "object": 0})
    batch = small_batch(["a", "b", "c"])
    dropped, unconditional = training_condition(method, batch), method.unconditional(batch, sampling(negative=""))
    for name in ("base_BLD", "caption_BLD", "tokens_BNGD", "token_mask_BNG", "pooled_BND", "boxes_BN4", "use_boxes_B"):
        assert torch.equal(getattr(dropped, name), getattr(unconditional, name)), name


@pytest.mark.parametrize("kind", ["text", "caption", "boxes", "object"])
def test_each_drop_takes_one_thing(kind):
    none = {"text": 0, "caption": 0, "boxes": 0, "object": 0}
    method, batch = small_method(drop=none | {kind: 1}), small_batch(["a"])
    kept, dropped = training_condition(small_method(drop=none), batch), training_condition(method, batch)
    changed = {name for name in vars(kept) if not torch.equal(getattr(kept, name), getattr(dropped, name))}
    objects = {"tokens_BNGD", "token_mask_BNG", "pooled_BND", "boxes_BN4"}
    expected = {
        "text": objects | {"base_BLD"}, "object": objects, "caption": {"caption_BLD"}, "boxes": {"use_boxes_B"},
    }  # fmt: skip
    assert changed == expected[kind]
    assert dropped.token_mask_BNG[:, 0].any(1).all()  # the null object stays


def test_drops_follow_their_probabilities_and_their_key():
    keys = [f"k{i}" for i in range(4000)]
    spec = DropSpec(text=0.1, caption=0.3, boxes=0.0, object=0.5)
    drops = Drops.draw(Noise(1, 4), keys, spec, 5)
    assert drops.text.mean() == pytest.approx(0.1, abs=0.02)
    assert drops.caption.mean() == pytest.approx(0.3, abs=0.03)
    assert not drops.boxes.any()
    assert drops.objects.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(drops.text, drops.caption)[0, 1]) < 0.06
    alone = Drops.draw(Noise(1, 4), keys[100:103], spec, 5)
    assert np.array_equal(alone.objects, drops.objects[100:103])
    assert not np.array_equal(Drops.draw(Noise(1, 5), keys, spec, 5).text, drops.text)


def test_text_and_caption_drop_together_beside_what_each_drops_alone():
    keys, single = [f"k{i}" for i in range(4000)], {"text": 0.1, "caption": 0.1, "boxes": 0.0, "object": 0.3}
    alone, both = (Drops.draw(Noise(1, 4), keys, DropSpec(**single, together=share), 5) for share in (0.0, 0.1))
    assert np.mean(alone.text & alone.caption) == pytest.approx(0.01, abs=0.005)
    assert np.mean(both.text & both.caption) == pytest.approx(0.109, abs=0.02)
    assert not np.any(alone.text & ~both.text) and not np.any(alone.caption & ~both.caption)
    assert np.array_equal(alone.objects, both.objects) and alone.objects.shape == (4000, 5)


def test_noise_does_not_depend_on_how_a_step_is_split():
    keys = [f"k{i}" for i in range(8)]
    whole, noise = Noise(3, 11), Noise(3, 11)
    for world in (2, 4):
        slices = [keys[i : i + 8 // world] for i in range(0, 8, 8 // world)]
        parts = torch.cat([noise.gaussian("noise", part, (2, 3)) for part in slices])
        assert torch.equal(parts, whole.gaussian("noise", keys, (2, 3)))
        assert torch.equal(torch.cat([noise.timesteps(part, 1000) for part in slices]), whole.timesteps(keys, 1000))
    assert not torch.equal(whole.gaussian("noise", keys, (2,)), whole.gaussian("posterior", keys, (2,)))
    spread = Noise(0, 0).timesteps([str(i) for i in range(5000)], 1000)
    assert spread.min() < 5 and spread.max() > 994 and spread.float().mean().item() == pytest.approx(499.5, abs=15)


# Losses


def test_losses_are_named_weighted_and_functions_of_the_noise(method):
    batch = small_batch(["a", "b"])
    losses = method(batch, NOISE)
    assert list(losses) == ["diffusion", "semdeg_img", "semdeg_sem"]
    assert all(loss.ndim == 0 and loss > 0 for loss in losses.values())
    again = method(batch, NOISE)
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    assert method(batch, Noise(7, 1))["diffusion"] != losses["diffusion"]
    heavier = small_method(weight=0.1)(batch, NOISE)
    assert heavier["semdeg_img"].item() == pytest.approx(2 * losses["semdeg_img"].item(), rel=1e-5)
    assert torch.equal(heavier["diffusion"], losses["diffusion"])


def test_a_batch_has_the_mean_loss_of_its_samples(method):
    batch = small_batch(["a", "b", "c"])
    whole = method(batch, NOISE)
    parts = [method(rows_of(batch, index), NOISE) for index in range(3)]
    for name, loss in whole.items():
        assert loss.item() == pytest.approx(sum(part[name].item() for part in parts) / 3, rel=1e-4)


def test_what_is_said_changes_the_loss(method):
    batch = small_batch(["a"])
    loss = method(batch, NOISE)["diffusion"]
    changes = {
        "caption": replace(batch, captions=["sharp"]),
        "objects": replace(batch, objects=[NONE]),
        "tags": replace(batch, objects=[replace(TWO, tags=["blue car", "sky"])]),
        "boxes": replace(batch, objects=[replace(TWO, boxes=TWO.boxes[::-1].copy())]),
        "lr": replace(batch, lr=1 - batch.lr),
    }
    same = [name for name, changed in changes.items() if method(changed, NOISE)["diffusion"] == loss]
    assert same == []


@pytest.mark.parametrize("half", ["img", "sem"])
def test_a_constraint_that_is_off_has_no_term(half):
    losses = small_method(constraint={half: False})(small_batch(["a"]), NOISE)
    other = {"img": "sem", "sem": "img"}[half]
    assert list(losses) == ["diffusion", f"semdeg_{other}"]
