"""The embedded degradation removal modules: the network whose weights ship here, and the filter without weights."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from spasemsr.backends.restorer import aware, build_restorer
from spasemsr.backends.restorer.aware import AwareRestorer
from spasemsr.backends.restorer.aware_bands import pixels_in_bands, residual_in_bands
from spasemsr.backends.restorer.aware_network import _mean, anchored, grid_of
from spasemsr.backends.restorer.crisp import SHARPENED, CrispRestorer, sharpened
from spasemsr.backends.restorer.spec import AWARE as AWARE_WEIGHTS
from spasemsr.backends.restorer.spec import (
    AWARE_SHARP,
    AwareRestorerSpec,
    CompactRestorerSpec,
    FilterRestorerSpec,
    dialed,
    identity_of,
)
from spasemsr.backends.restorer.spec import COMPACT as COMPACT_WEIGHTS
from spasemsr.backends.restorer.spec import CRISP as CRISP_WEIGHTS
from spasemsr.backends.restorer.tiles import even_tiles
from spasemsr.data.degradation import degrade
from spasemsr.data.spec import DegradationSpec
from spasemsr.determinism import torch_threads
from spasemsr.errors import UserError
from spasemsr.evaluation.distances import FeatureDistance
from spasemsr.evaluation.metrics import niqe, psnr_y, ssim_y
from spasemsr.hashing import sha256_file
from spasemsr.pixels import bicubic_upsample, to_pixels
from tests.worlds.photographs import FLAT, blurred, noisy, photograph, psnr, shrunk

RESTORER = build_restorer(FilterRestorerSpec(kind="filter"))
AWARE = build_restorer(AwareRestorerSpec(kind="aware"), "cpu")
CRISP = CrispRestorer("cpu")
STLPIPS = FeatureDistance("stlpips")
COMPACT = build_restorer(CompactRestorerSpec(kind="compact"), "cpu")
UNSEEN = ("astronaut", "chelsea", "china", "coins")  # the network was not trained on these


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    tensor = torch.from_numpy(lr.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return (bicubic_upsample(tensor, scale)[0].permute(1, 2, 0) * 255).round().byte().numpy()


@pytest.mark.parametrize(("blur", "sigma", "gain"), [(0, 16, 0.7), (0, 25, 1.5), (0.7, 16, 0.3), (0.7, 25, 1.0)])
def test_noisy_lr_is_restored_better_than_by_bicubic(blur, sigma, gain):
    gains = []
    for name in ("astronaut", "coffee", "chelsea", "china", "rocket"):
        hr = photograph(name, 256)
        lr = noisy(blurred(shrunk(hr, 4), blur), sigma)
        gains.append(psnr(RESTORER.restore([lr], 4)[0], hr) - psnr(bicubic(lr, 4), hr))
    assert np.mean(gains) > gain and min(gains) > (0 if sigma == 25 else -0.35)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "china", "rocket"])
def test_clean_lr_is_not_made_worse(name):
    hr = photograph(name, 256)
    lr = shrunk(hr, 4)
    restored, plain = RESTORER.restore([lr], 4)[0], bicubic(lr, 4)
    assert psnr(restored, hr) > psnr(plain, hr) - 0.1
    assert niqe(restored) < niqe(plain) + 0.5


@pytest.mark.parametrize("name", ["astronaut", "coffee", "china", "rocket"])
def test_blurred_lr_is_sharpened(name):
    lr = blurred(shrunk(photograph(name, 256), 4), 1.2)
    assert niqe(RESTORER.restore([lr], 4)[0]) < niqe(bicubic(lr, 4))


def test_edges_survive():
    lr = np.full((32, 32, 3), 60, np.uint8)
    lr[:, 16:] = 190
    restored = RESTORER.restore([noisy(lr, 10)], 4)[0].astype(float)
    step = restored[32:96, 80:].mean() - restored[32:96, :48].mean()
    assert step == pytest.approx(130, abs=6)
    steepest = [np.abs(np.diff(each.astype(float).mean(axis=(0, 2)))).max() for each in (restored, bicubic(lr, 4))]
    assert steepest[0] > 0.9 * steepest[1]
    assert restored[32:96, 80:].std() < 0.7 * bicubic(noisy(lr, 10), 4)[32:96, 80:].std()


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shape", [(20, 33, 3), (1, 1, 3), (5, 2, 3)])
def test_sizes(scale, shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    restored = RESTORER.restore([image], scale)[0]
    assert restored.shape == (shape[0] * scale, shape[1] * scale, 3) and restored.dtype == np.uint8


@pytest.mark.parametrize("name", FLAT)
def test_flat_images_stay_as_they_are(name):
    restored = RESTORER.restore([FLAT[name]], 4)[0]
    assert np.abs(restored.astype(int) - FLAT[name][0, 0].astype(int)).max() <= 1


def test_neighbours_in_a_batch_do_not_matter():
    images = [photograph("coffee", 32), photograph("camera", 48), FLAT["white"]]
    together = RESTORER.restore(images, 4)
    for image, restored in zip(images, together, strict=True):
        assert np.array_equal(RESTORER.restore([image], 4)[0], restored)


# The networks.


def test_the_network_beats_bicubic_on_photographs_it_has_not_seen():
    spec, gains, sharper = DegradationSpec(preset="seesr"), [], []
    for name in UNSEEN:
        hr = photograph(name, 256)
        for seed in range(4):
            lr = degrade(hr, spec, 4, seed).lr
            restored, plain = COMPACT.restore([lr], 4)[0], bicubic(lr, 4)
            gains.append(psnr_y(restored, hr) - psnr_y(plain, hr))
            sharper.append(niqe(plain) - niqe(restored))
    assert np.mean(gains) > 0.3 and np.mean(sharper) > 0.5


@pytest.mark.parametrize(("preset", "least"), [("camera", 0.3), ("stablesr", 0.1), ("seesr", 0.3)])
def test_the_aware_network_beats_bicubic_at_every_strength(preset, least):
    gains, alike = [], []
    for name in UNSEEN:
        hr = photograph(name, 256)
        for seed in range(3):
            lr = degrade(hr, DegradationSpec(preset=preset), 4, seed).lr
            restored, plain = AWARE.restore([lr], 4)[0], bicubic(lr, 4)
            gains.append(psnr_y(restored, hr) - psnr_y(plain, hr))
            alike.append(ssim_y(restored, hr) - ssim_y(plain, hr))
    assert np.mean(gains) > least and np.mean(alike) > 0


@pytest.mark.parametrize("blur", [0.0, 0.5])
def test_the_aware_network_does_no_harm_to_clean_lr(blur):
    for name in (*UNSEEN, "coffee", "rocket", "camera", "grace_hopper"):
        hr = photograph(name, 256)
        lr = blurred(shrunk(hr, 4), blur)
        assert psnr_y(AWARE.restore([lr], 4)[0], hr) > psnr_y(bicubic(lr, 4), hr) - 0.05, name


def test_tiles_give_what_one_pass_gives():
    lr = photograph("coffee")[:150, :170]
    whole, tiled = AWARE.restore([lr], 4)[0], AwareRestorer("cpu", tile=64).restore([lr], 4)[0]
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("height", "width", "band"), [(37, 50, 500), (5, 60, 60), (3, 2, 8192), (3, 200, 100)])
def test_bands_of_rows_give_the_bits_of_one_pass_in_one_thread(height, width, band, threads):
    lr = torch.from_numpy(photograph("coffee")[:height, :width].copy()).permute(2, 0, 1)[None] / 255
    network = AWARE._network
    with torch.inference_mode(), torch_threads(1):
        changes = network.modulation(lr, torch.tensor([[0.2, 0.5, 0.1]]))
        one_pass = network.residual(lr, changes)
    with torch.inference_mode(), torch_threads(threads):
        assert torch.equal(residual_in_bands(network, lr, changes, band), one_pass)


@pytest.mark.parametrize("without_grid", [False, True])
@pytest.mark.parametrize(("height", "width", "band"), [(150, 90, 1000), (5, 60, 60), (3, 2, 8192)])
def test_pixels_in_bands_are_those_of_the_whole_picture(height, width, band, without_grid):
    lr = torch.from_numpy(photograph("coffee")[:height, :width].copy()).permute(2, 0, 1)[None] / 255
    residual = 0.2 * torch.randn(1, 3, 4 * height, 4 * width, generator=torch.Generator().manual_seed(0))
    whole = bicubic_upsample(lr, 4) + anchored(residual, lr) - without_grid * grid_of(residual)
    found = []
    for threads in (1, 2):
        with torch.inference_mode(), torch_threads(threads):
            found.append(pixels_in_bands(residual.clone(), lr, without_grid, band))
    apart = np.abs(to_pixels(whole)[0].astype(int) - found[0])
    assert np.array_equal(*found) and apart.max() <= 1 and (apart > 0).mean() < 1e-3  # another order of sums


@pytest.mark.parametrize("shape", [(50, 70), (33, 16), (1, 100)])
def test_means_of_areas_are_those_of_what_lies_inside(shape):
    values = torch.rand(1, 2, *shape)
    expected = torch.nn.functional.avg_pool2d(values.double(), 33, 1, 16, count_include_pad=False)
    assert torch.allclose(_mean(values).double(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "count"), [(8, 8, 1), (300, 512, 1), (700, 1000, 2), (200, 2000, 1), (2048, 2048, 16)]
)
def test_tiles_are_few_and_none_has_more_pixels_than_a_square_one(height, width, count):
    tiles, seen = even_tiles(height, width, 512, 64), np.zeros((height, width), int)
    assert len(tiles) == count
    for (top, bottom), (left, right) in tiles:
        seen[top:bottom, left:right] += 1
        rows, columns = min(bottom + 64, height) - max(top - 64, 0), min(right + 64, width) - max(left - 64, 0)
        assert rows * columns <= 640**2
    assert (seen == 1).all()


def test_the_aware_network_asks_how_degraded_the_picture_is():
    """The same pixels come out otherwise where the rest of the picture is noisy."""
    lr = shrunk(photograph("astronaut"), 4)
    noisy_half = lr.copy()
    noisy_half[:, 64:] = noisy(lr[:, 64:], 20)
    far = np.s_[:, : 4 * 10]  # out of the network's reach
    assert np.abs(AWARE.restore([lr], 4)[0][far].astype(int) - AWARE.restore([noisy_half], 4)[0][far]).max() > 1


@pytest.mark.parametrize("name", FLAT)
def test_networks_keep_flat_images(name):
    for network in (AWARE, CRISP):
        restored = network.restore([FLAT[name]], 4)[0]
        assert np.abs(restored.astype(int) - FLAT[name][0, 0].astype(int)).max() <= 3


def test_sharpness_leads_to_what_looks_like_a_photograph():
    found = {sharpness: [] for sharpness in (0.0, 0.5, 1.0)}
    for name in ("astronaut", "coffee", "chelsea"):
        lr = degrade(photograph(name, 256), DegradationSpec(preset="camera"), 4, 1).lr
        for sharpness, each in found.items():
            each.append(
                niqe(build_restorer(AwareRestorerSpec(kind="aware", sharpness=sharpness), "cpu").restore([lr], 4)[0])
            )
    faithful, middle, sharp = (np.mean(each) for each in found.values())
    assert faithful > middle + 0.3 > sharp + 0.6


@pytest.mark.parametrize(
    ("dial", "sharpness", "crisp"),
    [(0.0, 0.0, 0.0), (0.25, 0.1, 0.0), (0.5, 0.2, 0.0), (0.75, 0.2, 0.5), (1.0, 0.2, 1.0)],
)
def test_the_dial_leads_from_faithful_over_the_specs_own_to_the_larger_network(dial, sharpness, crisp):
    found = dialed(AwareRestorerSpec(kind="aware", sharpness=0.2), dial)
    assert (found.sharpness, found.crisp) == (pytest.approx(sharpness), pytest.approx(crisp))
    assert dialed(AwareRestorerSpec(kind="aware", sharpness=0.2, crisp=0.5), dial).crisp >= found.crisp
    other = FilterRestorerSpec(kind="filter")
    assert dialed(other, dial) is other


# The larger network.


def test_the_larger_network_looks_more_like_a_photograph():
    sharper, nearer = [], []
    for name in ("astronaut", "coffee", "chelsea"):
        hr = photograph(name, 256)
        lr = degrade(hr, DegradationSpec(preset="camera"), 4, 1).lr
        crisp, small = CRISP.restore([lr], 4)[0], AWARE.restore([lr], 4)[0]
        sharper.append(niqe(small) - niqe(crisp))
        nearer.append(STLPIPS(small, hr) - STLPIPS(crisp, hr))
    assert np.mean(sharper) > 1 and min(nearer) > 0


def test_an_image_is_sharpened_where_it_changes():
    point = torch.zeros(1, 3, 7, 7)
    point[..., 3, 3] = 1.0
    found, mean = sharpened(point), torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    assert torch.allclose(found[0, 0, 2:5, 2:5], point[0, 0, 2:5, 2:5] * (1 + SHARPENED) - SHARPENED * mean)
    assert torch.allclose(sharpened(torch.full((1, 3, 5, 6), 0.3)), torch.full((1, 3, 5, 6), 0.3))


def test_tiles_of_the_larger_network_give_what_one_pass_gives():
    lr = photograph("coffee")[:200, :220]
    whole, tiled = CRISP.restore([lr], 4)[0], CrispRestorer("cpu", tile=64).restore([lr], 4)[0]
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(3, 2), (17, 130), (90, 110), (140, 150)])
def test_threads_change_no_bit_of_the_larger_network(shape):
    lr, found = photograph("coffee")[: shape[0], : shape[1]], []
    for count in (1, 2, 3):
        with torch_threads(count):
            found.append(CRISP.restore([lr], 4)[0])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_between_the_networks_lies_a_mean_of_their_images():
    lr = shrunk(photograph("chelsea", 128), 4)
    small, mixed, crisp = (
        build_restorer(AwareRestorerSpec(kind="aware", sharpness=0.2, crisp=share), "cpu").restore([lr], 4)[0]
        for share in (0.0, 0.25, 1.0)
    )
    assert np.abs(mixed - (0.75 * small + 0.25 * crisp)).max() <= 0.5 and np.abs(small - crisp.astype(int)).max() > 2


def test_the_sharp_end_has_no_lattice_of_two_pixels():
    """What alternates from pixel to pixel is a smaller part of what sharpness adds than it would be."""
    lr, filtered = shrunk(photograph("astronaut", 256), 4), []
    for share in (0.5, 0.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aware, "LATTICE_SHARE", share)
            restored = AwareRestorer("cpu", sharpness=1.0).restore([lr], 4)[0].astype(np.float32)
        filtered.append(np.abs(cv2.filter2D(restored, -1, np.outer([1, -1], [1, -1]).astype(np.float32))).mean())
    assert filtered[0] < 0.75 * filtered[1]


def test_threads_change_no_bit_of_the_aware_network():
    lr, found = photograph("coffee")[:90, :110], []
    for count in (1, 2, 3):
        with torch_threads(count):
            found.append(AwareRestorer("cpu", sharpness=0.3).restore([lr], 4)[0])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_threads_that_start_after_the_aware_network_have_as_many_of_torchs_as_before():
    with torch_threads(3):
        AwareRestorer("cpu").restore([photograph("coffee")[:24, :32]], 4)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3


def test_the_aware_network_enlarges_four_times_only():
    for network in (AWARE, CRISP):
        with pytest.raises(UserError, match="enlarges 4 times, the pipeline 2 times"):
            network.restore([FLAT["blue"]], 2)


@pytest.mark.parametrize("network", [AWARE, CRISP, COMPACT], ids=["aware", "crisp", "compact"])
@pytest.mark.parametrize("shape", [(20, 33, 3), (1, 1, 3), (5, 2, 3)])
def test_a_network_takes_any_size_and_looks_at_one_image_at_a_time(network, shape):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape).astype(np.uint8), photograph("coins", 40), photograph("chelsea", 40)]
    together = network.restore(images, 4)
    assert together[0].shape == (shape[0] * 4, shape[1] * 4, 3) and together[0].dtype == np.uint8
    for image, restored in zip(images, together, strict=True):
        assert np.array_equal(network.restore([image], 4)[0], restored)


def test_the_networks_identity_is_its_weights():
    assert identity_of(CompactRestorerSpec(kind="compact"))["weights_sha256"] == sha256_file(COMPACT_WEIGHTS)
    assert identity_of(AwareRestorerSpec(kind="aware"))["weights_sha256"] == sha256_file(AWARE_WEIGHTS)
    mixed, sharp = (identity_of(AwareRestorerSpec(kind="aware", sharpness=share)) for share in (0.5, 1.0))
    assert sha256_file(AWARE_WEIGHTS) in mixed["weights_sha256"] and sha256_file(AWARE_SHARP) in mixed["weights_sha256"]
    assert sharp["weights_sha256"] == sha256_file(AWARE_SHARP) and sharp["sharpness"] == 1.0
    between, crisp = (identity_of(AwareRestorerSpec(kind="aware", sharpness=0.2, crisp=share)) for share in (0.5, 1.0))
    assert len(between["weights_sha256"].split()) == 3 and (between["sharpness"], between["crisp"]) == (0.2, 0.5)
    assert crisp["weights_sha256"] == sha256_file(CRISP_WEIGHTS) and "sharpness" not in crisp
    assert COMPACT_WEIGHTS.stat().st_size < 1_000_000 and AWARE_WEIGHTS.stat().st_size < 2_000_000
