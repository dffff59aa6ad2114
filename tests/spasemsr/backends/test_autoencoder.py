"""The block DCT autoencoder."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from spasemsr.backends.autoencoder import build_autoencoder
from spasemsr.backends.autoencoder.block_dct import _DC_MEAN, _RGB_TO_YCBCR, channel_scales, term_deviations
from spasemsr.backends.autoencoder.spec import BlockDCTSpec
from spasemsr.data.columns import LATENTS
from tests.worlds.photographs import FLAT, MEASURED, photograph, psnr


def block_dct(keep: int = 4):
    return build_autoencoder(BlockDCTSpec(kind="block_dct", keep=keep))


def tensor(*images: np.ndarray) -> torch.Tensor:
    return torch.stack([torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1) for image in images])


def picture(images_B3HW: torch.Tensor) -> np.ndarray:
    return (images_B3HW[0].permute(1, 2, 0) * 255).round().byte().numpy()


def restored(module, image: np.ndarray) -> np.ndarray:
    return picture(module.decode(module.moments(tensor(image)).chunk(2, dim=1)[0]))


@pytest.mark.parametrize("keep", [1, 4, 8])
def test_shapes_and_moments(keep):
    module = block_dct(keep)
    moments = module.moments(tensor(photograph("coffee", 64), photograph("camera", 64))[..., :40])
    assert module.channels == 3 * keep**2 and module.downscale == 8 and module.scaling_factor == 1.0
    assert moments.shape == (2, 2 * module.channels, 8, 5)
    deviation = (0.5 * moments[:, module.channels :]).exp()
    assert torch.allclose(deviation, torch.full_like(deviation, 1e-3))
    LATENTS.member("moments.npy").encode(moments[0].numpy().astype(np.float16))
    assert module.decode(moments[:, : module.channels]).shape == (2, 3, 64, 40)


@pytest.mark.parametrize("name", ["astronaut", "grass", "china"])
def test_all_terms_give_the_image_back(name):
    image = photograph(name, 64)
    assert np.array_equal(restored(block_dct(8), image), image)


def test_the_terms_are_the_orthonormal_dct_of_ycbcr():
    image = photograph("coffee", 16)
    module = block_dct(4)
    mean = module.moments(tensor(image))[0, :48].reshape(3, 4, 4, 2, 2)
    terms = (mean * module._scale + module._mean).numpy()
    ycbcr = (image / 255 - 0.5) @ np.array(_RGB_TO_YCBCR).T
    for row in range(2):
        for column in range(2):
            block = ycbcr[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].transpose(2, 0, 1)
            expected = dctn(block, axes=(1, 2), norm="ortho")[:, :4, :4]
            assert np.allclose(terms[..., row, column], expected, atol=1e-5)


def test_the_ceiling_on_photographs():
    module = block_dct(4)
    names = ("astronaut", "coffee", "chelsea", "rocket", "china", "flower", "grace_hopper", "camera")
    ceilings = [psnr(restored(module, photograph(name, 256)), photograph(name, 256)) for name in names]
    assert np.mean(ceilings) > 28.5
    assert all(
        psnr(restored(block_dct(6), photograph(name, 256)), photograph(name, 256)) > ceiling
        for name, ceiling in zip(names, ceilings, strict=True)
    )


def test_half_precision_costs_nothing_visible():
    module, image = block_dct(8), photograph("astronaut", 128)
    stored = module.moments(tensor(image))[:, :192].half().float()
    assert np.abs(picture(module.decode(stored)).astype(int) - image.astype(int)).max() <= 1


def test_the_constants_are_the_photographs_statistics():
    powers, dc = [], []
    for name in MEASURED:
        image = photograph(name) / 255 - 0.5
        height, width = (side // 8 * 8 for side in image.shape[:2])
        planes = image[:height, :width] @ np.array(_RGB_TO_YCBCR).T
        blocks = planes.reshape(height // 8, 8, width // 8, 8, 3).transpose(0, 2, 4, 1, 3)
        terms = dctn(blocks, axes=(3, 4), norm="ortho").reshape(-1, 3, 8, 8)
        powers.append((terms**2).mean(axis=0))
        dc.append(terms[:, 0, 0, 0].mean())
    assert np.mean(dc) == pytest.approx(_DC_MEAN, abs=0.05)
    measured = np.mean(powers, axis=0)
    measured[0, 0, 0] -= np.mean(dc) ** 2
    stored = term_deviations(4).numpy()
    ratios = np.sqrt(measured[:, :4, :4]) / stored
    assert ratios.min() > 0.6 and ratios.max() < 1.6


def test_latents_have_unit_power_and_falling_deviations():
    module = block_dct(4)
    latents = torch.cat(
        [module.moments(tensor(photograph(name, 256))).chunk(2, dim=1)[0].flatten(2) for name in MEASURED], dim=2
    )
    assert latents.square().mean().sqrt() == pytest.approx(1.0, abs=0.25)
    luma = latents[0, :16].std(dim=1).reshape(4, 4)
    assert luma[0, 0] > luma[0, 1] > luma[0, 3] and luma[0, 0] > luma[1, 0] > luma[3, 0]
    scales = channel_scales(4)
    assert scales.shape == (3, 4, 4) and bool((scales > 0).all())


def test_gradients_pass_both_ways():
    module = block_dct(4)
    image = (tensor(photograph("coffee", 16)) * 0.5 + 0.25).double().float().requires_grad_()
    module.decode(module.moments(image).chunk(2, dim=1)[0]).square().sum().backward()
    assert image.grad is not None and bool(torch.isfinite(image.grad).all()) and image.grad.abs().sum() > 0
    assert not list(module.parameters()) and not module.state_dict()  # nothing to learn, nothing to save


def test_output_is_clamped_and_flat_images_are_exact():
    module = block_dct(4)
    wild = module.decode(torch.full((1, 48, 2, 2), 30.0))
    assert wild.min() >= 0 and wild.max() <= 1
    for image in FLAT.values():
        assert np.array_equal(restored(module, image), image)


def test_neighbours_in_a_batch_do_not_matter():
    module = block_dct(4)
    images = tensor(photograph("coffee", 64), photograph("camera", 64), photograph("grass", 64))
    moments = module.moments(images)
    decoded = module.decode(moments[:, :48])
    for i in range(3):
        assert torch.equal(module.moments(images[i : i + 1])[0], moments[i])
        assert torch.equal(module.decode(moments[i : i + 1, :48])[0], decoded[i])


@pytest.mark.parametrize("size", [(12, 16), (16, 20), (4, 8)])
def test_sizes_that_are_no_whole_blocks_are_refused(size):
    with pytest.raises(ValueError, match="multiples of 8"):
        block_dct(4).moments(torch.zeros(1, 3, *size))
