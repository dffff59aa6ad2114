"""The upscaler as Python callers use it: weights, seams, seeds, formats, memory."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spasemsr import Upscaler
from spasemsr.backends.protocols import Box
from spasemsr.backends.restorer import build_restorer
from spasemsr.backends.restorer.spec import AwareRestorerSpec, dialed
from spasemsr.diffusion.colorfix import fix_colors
from spasemsr.diffusion.spec import ScheduleSpec
from spasemsr.diffusion.tiling import tile_grid
from spasemsr.images.deviation import as_picture, luma_deviation
from spasemsr.images.picture import Picture, from_image
from spasemsr.pixels import bicubic_upsample
from spasemsr.upscaling import colour, windows
from spasemsr.upscaling.description import Description, _closely
from spasemsr.upscaling.memory import Budget
from spasemsr.upscaling.settings import MAP_SEEDS, WHOLE, Settings, parse_tags, sampling_for
from tests.worlds.tiny_upscaler import SAMPLE, photograph, pixels, tiny_upscaler

NOTHING = Description((), "blurred")


# One picture, any number of tiles, windows and threads.


def restore(made: Upscaler, picture: Picture, monkeypatch, window: tuple[int, int], tile: int) -> np.ndarray:
    """(H, W, 3) with windows of (height, width) lr pixels and tiles of so many cells."""
    monkeypatch.setattr(made, "plan", lambda *args: Budget(*window, 0, 0))
    monkeypatch.setattr(made, "sampling", SAMPLE.model_copy(update={"tile": tile, "tile_overlap": 8}))
    return made.restore(picture, Settings(), NOTHING).picture.colour.astype(float)


def seam_energy(image: np.ndarray, columns: list[int]) -> float:
    """Mean gradient across the columns where tiles end, over that across all others that start a latent cell."""
    steps = np.abs(np.diff(image, axis=1)).mean(axis=(0, 2))
    cells = set(range(8, image.shape[1], 8))
    assert set(columns) <= cells
    at, elsewhere = ([steps[column - 1] for column in sorted(where)] for where in (set(columns), cells - set(columns)))
    return float(np.mean(at) / np.mean(elsewhere))


def test_tiled_and_untiled_differ_by_less_than_a_grey_level(tiny, monkeypatch):
    picture = from_image(photograph(192, 192))
    whole = restore(tiny, picture, monkeypatch, (192, 192), tile=96)
    tiled = restore(tiny, picture, monkeypatch, (192, 192), tile=48)
    assert 0 < np.abs(tiled - whole).mean() < 1.0
    inside = [8 * side for tile in tile_grid(96, 96, 48, 8) for side in (tile.x, tile.x + tile.width) if 0 < side < 96]
    borders = sorted(set(inside))
    assert seam_energy(tiled, borders) / seam_energy(whole, borders) < 1.03


def test_windows_leave_no_seam(tiny, monkeypatch):
    picture = from_image(photograph(320, 32))
    whole = restore(tiny, picture, monkeypatch, (32, 320), tile=24)
    cut = restore(tiny, picture, monkeypatch, (32, 192), tile=24)
    assert 0 < np.abs(cut - whole).mean() < 1.0
    borders = [4 * side for span in windows.spans(320, 192, 4) for side in (span.start, span.end) if 0 < side < 320]
    borders += [4 * 160 + offset for offset in (-64, 0, 64)]  # where the ramp between them begins, is even, and ends
    assert seam_energy(cut, borders) / seam_energy(whole, borders) < 1.05


def test_each_window_sees_its_own_part_of_the_objects(tiny, monkeypatch):
    right = Description((Box("house", (0.75, 0.0, 1.0, 1.0), 0.9), Box("sky", WHOLE, 0.8)), "")
    seen, real = [], tiny._method.restore
    monkeypatch.setattr(tiny, "sampling", tiny.sampling.model_copy(update={"tile": 192, "tile_overlap": 0}))
    monkeypatch.setattr(tiny, "plan", lambda *args: Budget(16, 192, 0, 0))
    monkeypatch.setattr(tiny._method, "restore", lambda batch, *how: seen.append(batch) or real(batch, *how))
    tiny.restore(from_image(photograph(320, 16)), Settings(), right)
    assert [batch.lr.shape[3] for batch in seen] == [192, 192] and [batch.captions for batch in seen] == [[""]] * 2
    assert [batch.objects[0].tags for batch in seen] == [["sky"], ["house", "sky"]]
    assert np.allclose(seen[1].objects[0].boxes, [((240 - 128) / 192, 0, 1, 1), WHOLE])


def test_an_object_that_is_small_in_its_window_counts_where_it_fills_a_tile(tiny, monkeypatch):
    """Dropped from a window of which it is 0.5 %, it would be missing in the tile that it fills."""
    small = Description((Box("cat", (290 / 320, 0.0, 300 / 320, 0.1), 0.9),), "")
    tiles, real = [], tiny._method.in_tile

    def in_tile(batch, tile, height, width):
        tiles.append((tile, real(batch, tile, height, width).objects[0]))
        return real(batch, tile, height, width)

    monkeypatch.setattr(tiny, "plan", lambda *args: Budget(16, 192, 0, 0))
    monkeypatch.setattr(tiny, "sampling", tiny.sampling.model_copy(update={"tile": 16, "tile_overlap": 0}))
    monkeypatch.setattr(tiny._method, "in_tile", in_tile)
    tiny.restore(from_image(photograph(320, 16)), Settings(), small)
    shown = [(tile, objects) for tile, objects in tiles if objects.tags == ["cat"]]
    (tile, objects), *_ = shown
    cell = tiny._method.grid.cell
    left = (290 - 128) * tiny.config.scale / cell - tile.x  # cells from the tile's left border
    assert np.allclose(objects.boxes[0][0] * tile.width, max(left, 0), atol=1e-4)
    assert {tile.x for tile, _ in shown} == {80}


def test_a_captioner_that_reduces_pictures_is_shown_their_most_detailed_window():
    lr = np.full((500, 700, 3), 120, np.uint8)
    lr[350:400, 500:560] = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    shown = _closely(lr, 336)
    assert shown.shape == (336, 336, 3) and np.ptp(shown) > 200
    assert _closely(lr, None) is lr and _closely(lr[:200, :300], 336).shape == (200, 300, 3)


def test_a_model_that_is_shown_the_restored_image_gets_that_of_each_window(monkeypatch):
    made, seen = tiny_upscaler(workers=1, input="restored"), []
    real, restorer = made._method.restore, made._describer.restorer()
    monkeypatch.setattr(made, "plan", lambda *args: Budget(16, 192, 0, 0))
    monkeypatch.setattr(made._method, "restore", lambda batch, *how: seen.append(batch) or real(batch, *how))
    picture = from_image(photograph(320, 16))
    large = made.restore(picture, Settings(), NOTHING).picture
    assert large.size == (1280, 64) and len(seen) == 2
    for batch, left in zip(seen, (0, 128), strict=True):
        clean = restorer.restore([np.ascontiguousarray(picture.colour[:, left : left + 192])], 4)[0]
        assert np.array_equal((255 * batch.restored[0]).round().permute(1, 2, 0).numpy(), clean)


def test_the_dial_moves_a_restorer_that_has_one_and_leaves_sampling_alone(monkeypatch):
    adds = ScheduleSpec(prediction="residual")
    made, shown = tiny_upscaler(workers=1, input="restored", schedule=adds), []
    assert made._sampling(Settings(dial=1.0)) != made._sampling(Settings(dial=0.5))
    restore = AwareRestorerSpec(kind="aware", sharpness=0.2)
    inference = made.config.inference.model_copy(update={"restore": restore})
    made = Upscaler(made._method, made.config.model_copy(update={"inference": inference}), SAMPLE, workers=1)
    assert made._sampling(Settings(dial=1.0)) == SAMPLE.model_copy(update={"share": 0.25})
    assert made._sampling(Settings(dial=0.0)) == SAMPLE.model_copy(update={"share": 0.25})
    for share, between in ((0.5, 0.375), (0.1, 0.1)):  # a model that was released with less is led to no more
        made.sampling = SAMPLE.model_copy(update={"share": share})
        assert [made._sampling(Settings(dial=dial)).share for dial in (0.25, 0.5, 0.75)] == [between, share, between]
    made.sampling = SAMPLE
    real = made._method.restore
    monkeypatch.setattr(made._method, "restore", lambda batch, *how: shown.append(batch.restored) or real(batch, *how))
    picture = from_image(photograph(40, 32))
    for dial in (0.0, 0.5, 1.0):
        made.restore(picture, Settings(dial=dial), NOTHING)
        clean = build_restorer(dialed(restore, dial), "cpu").restore([picture.rgb8()], 4)[0]
        assert np.array_equal((255 * shown[-1][0]).round().permute(1, 2, 0).numpy(), clean)


def test_threads_change_no_bit_and_seeds_do(tiny):
    picture = from_image(photograph(56, 40))
    first = tiny.restore(picture, Settings(seed=3), NOTHING).picture.colour
    one = Upscaler(tiny._method, tiny.config, SAMPLE, workers=1)
    assert np.array_equal(one.restore(picture, Settings(seed=3), NOTHING).picture.colour, first)
    assert not np.array_equal(one.restore(picture, Settings(seed=4), NOTHING).picture.colour, first)


def test_progress_counts_every_call_and_may_stop(tiny):
    picture, seen = from_image(photograph(56, 40)), []
    tiny.restore(picture, Settings(), NOTHING, report=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, len(seen)) for i in range(len(seen))] and len(seen) == 2  # steps; both tiles share a call

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.restore(picture, Settings(), NOTHING, report=stop)
    assert tiny.restore(picture, Settings(), NOTHING).picture.size == (224, 160)  # nothing is left behind


@given(st.integers(8, 3000), st.integers(192, 1200))
@settings(max_examples=60, deadline=None)
def test_weights_of_windows_add_up_to_one(length, window):
    spans = windows.spans(length, window, 4)
    total = np.zeros(4 * length)
    for span in spans:
        total[4 * span.start : 4 * span.end] += span.weights
        assert span.start % windows.ALIGN == 0 and span.end - span.start <= window + windows.ALIGN
    assert np.allclose(total, 1, atol=1e-6)
    assert all(one.end - two.start >= windows.OVERLAP for one, two in itertools.pairwise(spans))


def test_noise_is_a_field_over_the_image():
    whole = windows.FieldNoise(5, 0, 0, 0).gaussian("start", ["image"], (3, 90, 70))
    part = windows.FieldNoise(5, 0, 33, 40).gaussian("start", ["image"], (3, 50, 20))
    assert torch.equal(part, whole[:, :, 33:83, 40:60])
    assert abs(whole.mean()) < 0.05 and abs(whole.std() - 1) < 0.05
    assert not torch.equal(whole, windows.FieldNoise(5, 0, 0, 0).gaussian("solver/0", ["image"], (3, 90, 70)))


@pytest.mark.parametrize("kind", ["adain", "wavelet", "none"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_colours_fixed_in_strips_are_those_of_the_whole(kind, depth, monkeypatch):
    monkeypatch.setattr(colour, "_STRIP_PIXELS", 160 * 36)
    rng = np.random.default_rng(0)
    lr = (rng.random((50, 40, 3)) * np.iinfo(depth).max).astype(depth)
    canvas = ((rng.random((200, 160, 3)) * 0.6 + 0.3) * 65535).astype(np.uint16)
    lr_up = bicubic_upsample(colour.tensor_of(colour.lr_float(lr)), 4)
    expected = fix_colors(kind, colour.tensor_of(canvas.astype(np.float32) / 65535), lr_up)
    with ThreadPoolExecutor(3) as pool:
        colour.fix_canvas(kind, canvas, lr, 4, pool.map)
    assert np.abs(canvas / 65535 - expected[0].permute(1, 2, 0).numpy()).max() < 3 / 65535


def test_few_strips_are_in_work_at_once_whatever_the_number_of_threads(monkeypatch):
    """Each takes 100 MB."""
    monkeypatch.setattr(colour, "_STRIP_PIXELS", 160 * 36)
    given: list[int] = []

    def run_strips(work, numbers):
        given.extend(numbers)
        assert len(numbers) <= 4
        return map(work, numbers)

    canvas = np.full((800, 160, 3), 30000, np.uint16)
    colour.fix_canvas("wavelet", canvas, np.full((200, 40, 3), 120, np.uint8), 4, run_strips)
    assert given == list(range(len(given))) and len(given) > 8


# What a person may ask.


@pytest.mark.parametrize("scale", [2, 3])
def test_smaller_scales_are_reduced_from_four(tiny, scale):
    picture = from_image(photograph(30, 24))
    four = tiny.restore(picture, Settings(), NOTHING).picture.colour
    less = tiny.restore(picture, Settings(scale=scale), NOTHING).picture
    assert less.size == (30 * scale, 24 * scale)
    assert np.abs(less.colour.mean((0, 1)) - four.mean((0, 1))).max() < 0.5


def test_the_dial_runs_from_faithful_to_sharp():
    base = SAMPLE.model_copy(update={"guidance": 4.0, "steps": 50})
    turned = [sampling_for(base, Settings(dial=dial / 10), 1000) for dial in range(11)]
    assert turned[5] == base
    for name in ("start", "guidance"):
        values = [getattr(sample, name) for sample in turned]
        assert values == sorted(values) and values[0] < values[5] < values[10]
    assert turned[0].guidance == 1.0 and max(sample.start for sample in turned) <= 1.0
    assert sampling_for(SAMPLE, Settings(steps=700), 1000).steps == 300  # no more than the share has
    assert sampling_for(SAMPLE, Settings(dial=1.0), 1000).guidance == 1.0


def test_beyond_the_whole_schedule_the_dial_takes_more_steps_where_there_are_few():
    one, many = (SAMPLE.model_copy(update={"start": 1.0, "steps": steps}) for steps in (1, 50))
    assert [sampling_for(one, Settings(dial=dial), 1000).steps for dial in (0.0, 0.5, 0.75, 1.0)] == [1, 1, 2, 3]
    assert sampling_for(many, Settings(dial=1.0), 1000).steps == 50


def test_the_dial_changes_the_picture(tiny):
    picture = from_image(photograph(32, 32))
    results = [tiny.restore(picture, Settings(dial=dial), NOTHING).picture.colour for dial in (0.0, 1.0)]
    lr_up = pixels(photograph(32, 32).resize((128, 128), Image.BICUBIC))
    distances = [np.abs(result - lr_up).mean() for result in results]
    assert distances[0] < distances[1]


def test_tags_and_caption_by_hand(tiny):
    picture = from_image(photograph(64, 64))
    found = tiny.describe(picture)
    assert found.boxes and found.caption
    name = found.boxes[0].tag
    given_ = tiny.describe(picture, Settings(tags=("unicorn", name), caption="very  noisy\n"))
    assert given_.boxes[0] == Box("unicorn", WHOLE, 1.0)
    assert name in [box.tag for box in given_.boxes[1:]] and given_.caption == "very noisy"
    assert tiny.describe(picture, Settings(tags=())).boxes == ()
    results = [tiny.restore(picture, Settings(), told).picture.colour for told in (found, given_)]
    assert not np.array_equal(*results)
    assert parse_tags(" dog,red  car\x07,,dog") == ("dog", "red car")


def test_the_map_shows_where_seeds_disagree(tiny, monkeypatch):
    picture, results, canvas = from_image(photograph(40, 32)), [], tiny._canvas
    monkeypatch.setattr(tiny, "_canvas", lambda *arguments: results.append(canvas(*arguments)) or results[-1])
    told = tiny.restore(picture, Settings(), NOTHING, with_map=True)
    assert told.deviation.shape == (128, 160) and told.deviation.dtype == np.uint8
    assert told.deviation.max() > 0 and len(results) == MAP_SEEDS
    assert np.array_equal(told.deviation, as_picture(luma_deviation(results)))  # evaluation's map
    without = tiny.restore(picture, Settings(), NOTHING)
    assert without.deviation is None and np.array_equal(without.picture.colour, told.picture.colour)
