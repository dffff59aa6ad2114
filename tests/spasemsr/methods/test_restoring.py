"""Restoring pictures with a method: solvers, guidance, tiles, what stands beside it."""

from dataclasses import replace

import pytest
import torch

from spasemsr.methods.baselines import Bicubic, Restored
from spasemsr.methods.latent import Prediction
from spasemsr.methods.noise import Noise
from spasemsr.pixels import bicubic_upsample
from tests.worlds.small_methods import objects_of, rows_of, sampling, small_batch, small_method

NOISE, PLAIN = Noise(7, 0), sampling()


@pytest.fixture(scope="module")
def method():
    return small_method()


# Restoring


def test_same_seed_same_image_and_batches_do_not_matter(method):
    batch = small_batch(["a", "b"], training=False)
    restored = method.restore(batch, NOISE, PLAIN)
    assert restored.shape == (2, 3, 64, 64)
    assert restored.min() >= 0 and restored.max() <= 1
    assert torch.equal(method.restore(batch, NOISE, PLAIN), restored)
    assert not torch.equal(method.restore(batch, Noise(8, 0), PLAIN), restored)
    alone = torch.cat([method.restore(rows_of(batch, index), NOISE, PLAIN) for index in range(2)])
    assert torch.allclose(alone, restored, atol=1e-5)


def test_the_ancestral_solver_is_as_reproducible():
    method, batch = small_method(), small_batch(["a", "b"], training=False)
    asked = sampling(solver="ddpm", steps=3)
    restored = method.restore(batch, NOISE, asked)
    assert torch.equal(method.restore(batch, NOISE, asked), restored)
    alone = torch.cat([method.restore(rows_of(batch, index), NOISE, asked) for index in range(2)])
    assert torch.allclose(alone, restored, atol=1e-5)


def test_guidance_one_is_the_conditional_pass_and_zero_the_unconditional():
    batch = small_batch(["a"], training=False)
    calls = {}
    images = {}
    for guidance in (0.0, 1.0, 1.0 + 1e-7, 3.0):
        method = small_method()
        predict, calls[guidance] = method.network.predict, 0

        def counted(*args, predict=predict, guidance=guidance):
            calls[guidance] += 1
            return predict(*args)

        method.network.predict = counted
        images[guidance] = method.restore(batch, NOISE, sampling(guidance=guidance))
    assert calls[1.0] == 2 and calls[3.0] == 4
    assert torch.allclose(images[1.0], images[1.0 + 1e-7], atol=1e-4)
    assert not torch.allclose(images[3.0], images[1.0], atol=1e-3)
    bare = small_method()
    bare.condition = bare.unconditional
    assert torch.allclose(bare.restore(batch, NOISE, PLAIN), images[0.0], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (11, 21), (5, 16), (1, 1)])
def test_any_size_is_restored(method, height, width):
    restored = method.restore(small_batch(["a"], height, width, training=False), NOISE, PLAIN)
    assert restored.shape == (1, 3, 4 * height, 4 * width)
    assert torch.isfinite(restored).all()


def test_a_latent_that_fits_takes_the_untiled_path_bit_for_bit():
    batch = small_batch(["a"], 48, 32, training=False)  # 24 x 16 latent cells
    untiled = small_method().restore(batch, NOISE, sampling(tile=24, tile_overlap=4))
    assert torch.equal(small_method().restore(batch, NOISE, sampling(tile=96)), untiled)
    tiled = small_method().restore(batch, NOISE, sampling(tile=16, tile_overlap=8))
    assert tiled.shape == untiled.shape
    assert not torch.equal(tiled, untiled)
    assert (tiled - untiled).abs().mean() < 0.1


def test_tiles_see_their_own_boxes():
    method = small_method()
    corner = objects_of(("sign", (0.0, 0.0, 0.25, 0.4), 0.8), ("wall", (0.0, 0.0, 1.0, 1.0), 0.7))
    batch = replace(small_batch(["a"], 32, 64, training=False), objects=[corner])  # 16 x 32 cells: two tiles
    seen = []
    encode = method.encode
    method.encode = lambda view, cond: (seen.append((view.lr_up_B3HW, cond)), encode(view, cond))[1]
    method.restore(batch, NOISE, sampling(tile=16, tile_overlap=0))
    ((shown, both),) = seen  # in one call, left and right
    assert both.token_mask_BNG[0].any(1).tolist() == [True, True, True]
    assert both.token_mask_BNG[1].any(1).tolist() == [True, True, False]
    assert torch.allclose(both.boxes_BN4[0, 1], torch.tensor([0.0, 0.0, 0.5, 0.4]))
    assert both.boxes_BN4[1, 1].tolist() == [0, 0, 1, 1]
    lr_up = bicubic_upsample(batch.lr, 4)
    assert torch.equal(torch.cat([shown[:1], shown[1:]], dim=-1), lr_up)


def test_an_untouched_start_returns_the_lr_it_began_with():
    """With a network that predicts the noise perfectly, the LR latents come back whatever the noise."""
    method, asked = small_method(), sampling(solver="ddpm", steps=4, colorfix="none")
    batch = small_batch(["a"], training=False)
    lr_latents = 0.5 * method.autoencoder.moments(bicubic_upsample(batch.lr, 4))[:, :4]

    def predict(noisy, timesteps, encoded, carry, scale):
        signal, sigma = method.schedule.levels(timesteps, noisy)
        return Prediction((noisy - signal * lr_latents) / sigma)

    method.predict = predict
    expected = method.autoencoder.decode(2 * lr_latents)
    assert torch.allclose(method.restore(batch, NOISE, asked), expected, atol=2e-3)


# The others


def test_building_is_a_function_of_the_seed_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = small_method(seed=1, redrawn=False)
    assert torch.equal(torch.rand(3), expected)
    two, other = small_method(seed=1, redrawn=False), small_method(seed=2, redrawn=False)
    weights = [next(iter(m.trainable()["controlnet"].parameters())) for m in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_bicubic_is_the_projects_function_and_has_nothing_to_train():
    batch = small_batch(["a"], training=False)
    method = Bicubic(4)
    restored = method.restore(batch, NOISE, PLAIN)
    assert torch.equal(restored, bicubic_upsample(batch.lr, 4))
    assert restored.shape == (1, 3, 64, 64)
    assert method.trainable() == {} and method(batch, NOISE) == {}
    flat = torch.full((1, 3, 4, 5), 0.25)
    assert torch.allclose(bicubic_upsample(flat, 4), torch.full((1, 3, 16, 20), 0.25))


def test_the_restorers_row_is_the_restorers_image():
    class Repeat:
        def restore(self, images, scale):
            return [image.repeat(scale, axis=0).repeat(scale, axis=1) for image in images]

    batch = small_batch(["a", "b"], 4, 6, training=False)
    restored = Restored(Repeat(), 4).restore(batch, NOISE, PLAIN)
    expected = (batch.lr * 255).round().repeat_interleave(4, 2).repeat_interleave(4, 3) / 255
    assert torch.allclose(restored, expected, atol=1e-6)
