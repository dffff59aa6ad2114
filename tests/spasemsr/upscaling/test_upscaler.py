"""The upscaler as Python callers use it: weights, seams, seeds, formats, memory."""

import io
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from spasemsr import Upscaler
from spasemsr.backends.protocols import Box
from spasemsr.diffusion.colorfix import fix_colors
from spasemsr.diffusion.tiling import tile_grid
from spasemsr.errors import RejectedSample, UserError
from spasemsr.images import colour, writing
from spasemsr.images.deviation import as_picture, luma_deviation
from spasemsr.images.flat import upright
from spasemsr.images.picture import Picture, Said, from_image, parse_picture
from spasemsr.images.transparency import fill_transparent
from spasemsr.methods.protocol import Grid
from spasemsr.pixels import bicubic_upsample
from spasemsr.upscaling import hub, memory, windows
from spasemsr.upscaling.description import Description
from spasemsr.upscaling.memory import GIB, Budget, Footprint, budget, parse_bytes
from spasemsr.upscaling.settings import MAP_SEEDS, WHOLE, Settings, parse_tags, sampling_for
from tests.worlds import ROOT
from tests.worlds.tiny_upscaler import SAMPLE, photograph, pixels, tiny_upscaler

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOTHING = Description((), "blurred")
GRID = Grid(channels=48, cell=8, width=16, learned=False)


@pytest.fixture(scope="module")
def tiny() -> Upscaler:
    return tiny_upscaler(workers=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny"
    tiny.save_pretrained(path)
    return path


# Weights: a folder, the Hub.


def test_a_saved_folder_restores_the_same_pixels(tiny, folder):
    image = photograph(40, 32)
    loaded = Upscaler.from_pretrained(folder, workers=1)
    assert loaded.sampling == SAMPLE and len(loaded.weights_sha256) == 64
    large = tiny(image)
    assert large.size == (160, 128) and large.mode == "RGB"
    assert np.array_equal(pixels(large), pixels(loaded(image)))


def test_the_folder_has_the_layout_of_the_hub(tiny, folder, tmp_path):
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "weights.safetensors"]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n") and "pipeline_tag: image-to-image" in card and "Upscaler.from_pretrained" in card
    assert json.loads((folder / "config.json").read_text())["inference"]["sample"]["steps"] == SAMPLE.steps
    tiny.save_pretrained(tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


class FakeHub:
    def __init__(self, token=None):
        FakeHub.seen = {"token": token}

    def create_repo(self, name, private, exist_ok):
        FakeHub.seen |= {"private": private}
        return SimpleNamespace(repo_id=f"me/{name}")

    def upload_folder(self, repo_id, folder_path, commit_message):
        FakeHub.seen |= {"name": repo_id, "files": sorted(path.name for path in Path(folder_path).iterdir())}
        if "refused" in repo_id:
            raise OSError("no such account")
        return f"https://hub/{repo_id}/commit/1"


def test_half_precision_takes_half_the_room_and_restores_the_same_to_a_grey_level(tiny, folder, tmp_path):
    tiny.save_pretrained(tmp_path / "half", half=True)
    whole, half = (path / "weights.safetensors" for path in (folder, tmp_path / "half"))
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    image = photograph(40, 32)
    restored = [pixels(Upscaler.from_pretrained(path.parent)(image)).astype(int) for path in (whole, half)]
    assert np.abs(restored[0] - restored[1]).mean() < 0.5


def test_weights_beyond_half_precision_are_refused(tiny, tmp_path):
    tensor = next(parameter for part in tiny._method.trainable().values() for parameter in part.parameters())
    kept = tensor.flatten()[0].item()
    tensor.data.flatten()[0] = 1e6
    try:
        with pytest.raises(UserError, match="float16"):
            tiny.save_pretrained(tmp_path / "half", half=True)
    finally:
        tensor.data.flatten()[0] = kept
    assert not (tmp_path / "half" / "weights.safetensors").exists()


def test_push_uploads_the_folder_and_says_where(tiny, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    assert tiny.push_to_hub("nano", token="t").endswith("me/nano/commit/1")
    expected = ["README.md", "config.json", "weights.safetensors"]
    assert FakeHub.seen == {"token": "t", "private": True, "name": "me/nano", "files": expected}
    with pytest.raises(UserError, match="no such account"):
        tiny.push_to_hub("refused")


def test_a_hub_repository_needs_a_commit(monkeypatch, folder):
    with pytest.raises(UserError, match="commit"):
        Upscaler.from_pretrained("somebody/nano")
    with pytest.raises(UserError, match="commit"):
        Upscaler.from_pretrained("somebody/nano", revision="main")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, revision, allow_patterns: str(folder))
    assert Upscaler.from_pretrained("somebody/nano", revision="0" * 40).sampling == SAMPLE


@pytest.mark.parametrize("harm", ["no folder", "no config", "no json", "old config", "no weights", "cut weights"])
def test_unusable_weights_are_named(folder, tmp_path, harm):
    broken = tmp_path / "model"
    for path in folder.iterdir() if harm != "no folder" else []:
        broken.mkdir(exist_ok=True)
        (broken / path.name).write_bytes(path.read_bytes())
    match harm:
        case "no config" | "no weights":
            (broken / {"no config": "config.json", "no weights": "weights.safetensors"}[harm]).unlink()
        case "no json":
            (broken / "config.json").write_text("{")
        case "old config":
            config = json.loads((broken / "config.json").read_text())
            del config["inference"]
            (broken / "config.json").write_text(json.dumps(config))
        case "cut weights":
            (broken / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:-100])
    with pytest.raises(UserError) as raised:
        Upscaler.from_pretrained(broken)
    named = {"no folder": "model", "old config": "inference"}.get(harm, "config" if "config" in harm else ".")
    assert named in str(raised.value) and raised.value.remedy


def test_a_projects_model_samples_as_its_params_say(tmp_path, tiny):
    project = tmp_path / "models" / "spasemsr"
    hub.save(project, tiny._method, tiny.config)
    root = ROOT
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    from spasemsr.config import load_params

    assert Upscaler.from_pretrained(project).sampling == load_params(root / "params.yaml").embedded.evaluate.sample


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, spasemsr; print('torch' in sys.modules, 'Upscaler' in spasemsr.__all__)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "True"]


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
    monkeypatch.setattr(tiny, "plan", lambda *args: Budget(16, 192, 0, 0))
    monkeypatch.setattr(tiny._method, "restore", lambda batch, *how: seen.append(batch) or real(batch, *how))
    tiny.restore(from_image(photograph(320, 16)), Settings(), right)
    assert [batch.lr.shape[3] for batch in seen] == [192, 192] and [batch.captions for batch in seen] == [[""]] * 2
    assert [batch.objects[0].tags for batch in seen] == [["sky"], ["house", "sky"]]
    assert np.allclose(seen[1].objects[0].boxes, [((240 - 128) / 192, 0, 1, 1), WHOLE])


def test_a_model_that_is_shown_the_restored_image_gets_that_of_each_window(monkeypatch):
    made, seen = tiny_upscaler(workers=1, input="restored"), []
    real, restorer = made._method.restore, made._describer.restorer
    monkeypatch.setattr(made, "plan", lambda *args: Budget(16, 192, 0, 0))
    monkeypatch.setattr(made._method, "restore", lambda batch, *how: seen.append(batch) or real(batch, *how))
    picture = from_image(photograph(320, 16))
    large = made.restore(picture, Settings(), NOTHING).picture
    assert large.size == (1280, 64) and len(seen) == 2
    for batch, left in zip(seen, (0, 128), strict=True):
        clean = restorer.restore([np.ascontiguousarray(picture.colour[:, left : left + 192])], 4)[0]
        assert np.array_equal((255 * batch.restored[0]).round().permute(1, 2, 0).numpy(), clean)


def test_threads_change_no_bit_and_seeds_do(tiny):
    picture = from_image(photograph(56, 40))
    first = tiny.restore(picture, Settings(seed=3), NOTHING).picture.colour
    one = Upscaler(tiny._method, tiny.config, SAMPLE, workers=1)
    assert np.array_equal(one.restore(picture, Settings(seed=3), NOTHING).picture.colour, first)
    assert not np.array_equal(one.restore(picture, Settings(seed=4), NOTHING).picture.colour, first)


def test_progress_counts_every_call_and_may_stop(tiny):
    picture, seen = from_image(photograph(56, 40)), []
    tiny.restore(picture, Settings(), NOTHING, report=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, len(seen)) for i in range(len(seen))] and len(seen) == 4  # 2 tiles, 2 steps

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
    colour.fix_canvas(kind, canvas, lr, 4)
    assert np.abs(canvas / 65535 - expected[0].permute(1, 2, 0).numpy()).max() < 3 / 65535


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


# Pictures of every kind.


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_any_mode_comes_back_as_what_it_was(tiny, mode):
    image = photograph(24, 16).convert("L").convert("I;16") if mode == "I;16" else photograph(24, 16).convert(mode)
    large = tiny(image, seed=1)
    assert large.size == (96, 64)
    assert large.mode == {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
    if mode == "I;16":
        assert len(np.unique(np.asarray(large))) > 256


def test_profile_and_exif_travel_with_the_image(tiny):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    photograph(24, 16).save(file, "JPEG", icc_profile=ICC, exif=exif)
    large = tiny(Image.open(file))
    assert large.size == (64, 96) and large.info["icc_profile"] == ICC
    kept = Image.Exif()
    kept.load(large.info["exif"])
    assert kept[0x010F] == "Maker" and 0x0112 not in kept


def test_alpha_is_restored_apart_from_colour(tiny):
    image = photograph(32, 32).convert("RGBA")
    image.putalpha(Image.fromarray(np.where(np.indices((32, 32))[1] < 16, 0, 255).astype(np.uint8)))
    large = np.asarray(tiny(image))
    assert large.shape == (128, 128, 4)
    assert (large[:, :40, 3] == 0).all() and (large[:, 88:, 3] == 255).all()
    opaque = photograph(32, 32).convert("RGBA")
    assert (np.asarray(tiny(opaque))[..., 3] == 255).all()


def test_colour_under_transparency_is_taken_from_around():
    rng = np.random.default_rng(0)
    seen = rng.integers(100, 140, (40, 30, 3)).astype(np.uint8)
    alpha = np.full((40, 30), 255, np.uint8)
    alpha[10:25, 5:20] = 0
    hidden = seen.copy()
    hidden[alpha == 0] = (255, 0, 255)
    filled = fill_transparent(hidden, alpha)
    assert np.array_equal(filled[alpha > 0], seen[alpha > 0])
    assert filled[alpha == 0].min() >= 100 and filled[alpha == 0].max() < 140


def test_a_gray_picture_stays_gray_and_deep(tiny):
    ramp = np.linspace(0, 65535, 24 * 32).reshape(24, 32, 1).astype(np.uint16)
    result = tiny.restore(Picture(ramp, None, "PNG"), Settings(), NOTHING).picture
    assert result.mode == "gray" and result.bits == 16 and result.colour.shape == (96, 128, 1)
    assert len(np.unique(result.colour)) > 1000


PICTURES = [
    (form, bits, gray, alpha) for form in writing.SUFFIXES for bits in (8, 16) for gray in (1, 0) for alpha in (1, 0)
]


@pytest.mark.parametrize(("form", "bits", "gray", "alpha"), PICTURES)
def test_files_keep_depth_alpha_profile_and_exif(form, bits, gray, alpha):
    depth, channels = (np.uint8, np.uint16)[bits == 16], 1 if gray else 3
    top = np.iinfo(depth).max
    values = np.linspace(0, top, 21 * 33 * channels).reshape(21, 33, channels).astype(depth)
    exif = Image.Exif()
    exif[0x010F], exif[0x8769] = "Maker", {0xA002: 7, 0x829A: (1, 50)}
    mask = np.linspace(top, 0, 21 * 33).reshape(21, 33).astype(depth) if alpha else None
    picture = Picture(values, mask, "", None if gray else ICC, Said(exif.tobytes()))
    fitted = writing.fitted(picture, form)
    read = parse_picture(writing.encode(fitted), 10_000)
    assert (read.size, read.mode, read.bits, read.format) == ((33, 21), fitted.mode, fitted.bits, form)
    assert read.bits == (bits if form in ("PNG", "TIFF") else 8)
    assert (read.alpha is not None) == (bool(alpha) and form != "JPEG")
    assert read.icc == fitted.icc and (gray or read.icc == ICC)
    kept = Image.Exif()
    kept.load(read.said.exif)
    inner = kept.get_ifd(0x8769)
    assert kept[0x010F] == "Maker" and inner[0xA002] == 33 and tuple(inner[0x829A]) == (1, 50)
    error = np.abs(read.colour.astype(int) - fitted.colour.astype(int)).max()
    assert error <= {"JPEG": 4, "WEBP": 8}.get(form, 0)
    if read.alpha is not None:
        assert np.array_equal(read.alpha, fitted.alpha)
    assert writing.encode(fitted) == writing.encode(fitted)


def test_what_a_format_cannot_hold_is_said():
    picture = Picture(np.zeros((9, 9, 3), np.uint16), np.zeros((9, 9), np.uint16), "")
    assert writing.fitted(picture, "JPEG").notes == ("reduced_to_8_bit", "alpha_over_white")
    assert (writing.fitted(picture, "JPEG").colour == 255).all()
    with pytest.raises(RejectedSample, match="16383"):
        writing.require_fit("WEBP", 20_000, 100)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation):
    from PIL import ImageOps

    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert np.array_equal(upright(np.asarray(image), orientation), expected)


@pytest.mark.parametrize(("size", "reason"), [((1, 1), "too_small"), ((7, 300), "too_small")])
def test_pictures_without_content_are_refused(tiny, size, reason):
    with pytest.raises(RejectedSample, match=reason):
        tiny(Image.new("RGB", size))


def test_the_smallest_picture_passes(tiny):
    assert tiny(Image.new("RGB", (8, 8), "red")).size == (32, 32)


# Memory.


@given(st.integers(8, 6000), st.integers(8, 6000), st.floats(1.2, 40.0), st.booleans())
@settings(max_examples=100, deadline=None)
def test_windows_are_chosen_for_the_limit(height, width, gigabytes, with_map):
    footprint = Footprint(GIB, GIB // 10, 160.0)
    limit = int(gigabytes * GIB)
    try:
        chosen = budget(footprint, height, width, 4, limit, with_map)
    except RejectedSample as rejected:
        assert rejected.reason == "needs_memory" and "--max-memory" in rejected.detail
        return
    assert chosen.expected <= limit
    for window, side in ((chosen.window_height, height), (chosen.window_width, width)):
        assert min(side, windows.MIN_SIDE) <= window <= side


def test_a_gigantic_picture_is_refused_before_any_work(tiny):
    with pytest.raises(RejectedSample, match=r"80000x40000 .* GB"):
        tiny.plan((20_000, 10_000), Settings(), 4 * GIB)


def test_more_memory_is_taken_for_more_tiles_and_guidance():
    plain = Footprint.of(GRID, SAMPLE, workers=1)
    guided = Footprint.of(GRID, SAMPLE.model_copy(update={"guidance": 2.0}), workers=2)
    assert guided.per_tile == 2 * plain.per_tile and guided.per_window_pixel > plain.per_window_pixel


@pytest.mark.parametrize(("text", "expected"), [("4GB", 4 * GIB), ("900 mb", 900 << 20), ("1.5g", 3 * GIB // 2)])
def test_amounts_of_memory(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "4 XB", "-1GB", "0"])
def test_other_words_are_no_amount(text):
    with pytest.raises(ValueError, match="memory"):
        parse_bytes(text)


def test_the_memory_of_this_process_counts_as_free(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    assert 0 < memory.free_bytes() < 64 * GIB
