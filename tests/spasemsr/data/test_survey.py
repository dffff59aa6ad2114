"""Which photographs are used, how they are split and cut, and what is said of the others."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from spasemsr.config import load_params
from spasemsr.data import survey
from spasemsr.data.patches import KEY, MAX_SIDE, grid, make_key, read_patches
from spasemsr.data.sources import Photograph, Sources, missing_from_packages
from spasemsr.data.spec import DataSpec
from spasemsr.errors import UserError
from tests.worlds import ROOT

SPEC = DataSpec(packages=(), val_fraction=0.3, patch=128, stride=128, val_patch=192, max_patches=4, num_buckets=4)


class Memory(dict):
    """A store for verdicts that counts how often it was asked in vain."""

    misses = 0

    def get(self, key: str) -> bytes | None:
        self.misses += key not in self
        return super().get(key)

    def put(self, key: str, payload: bytes, label: str = "") -> None:
        self[key] = payload


def photograph(path, seed: int, size: tuple[int, int] = (200, 260)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


def surveyed(folder, store=None):
    store = Memory() if store is None else store
    sources = Sources((), folder)
    found, _ = sources.photographs()
    verdicts = [survey.examine(p, sources, SPEC, store) for p in found]
    usable = [v for v in verdicts if isinstance(v, survey.Usable)]
    images, duplicates = survey.drop_duplicates(usable)
    return images, [v for v in verdicts if isinstance(v, survey.Reject)] + duplicates


def usable(count: int, size: int = 256) -> list[survey.Usable]:
    rng = np.random.default_rng(5)
    return [survey.Usable(Photograph("folder", f"{i}.png"), rng.bytes(32).hex(), size, size, ()) for i in range(count)]


@pytest.fixture(scope="module")
def default_run() -> tuple[list[survey.Usable], DataSpec]:
    """The photographs of `make demo`, and its section `data`."""
    spec = load_params(ROOT / "params.yaml").embedded.data
    sources = Sources(spec.packages, ROOT / "data/raw")
    found = [p for p in sources.photographs()[0] if p.source != "folder"]
    return [survey.examine(photograph, sources, spec, Memory()) for photograph in found], spec


def test_shipped_photographs_are_all_there_and_usable(default_run):
    images, spec = default_run
    assert missing_from_packages(spec.packages) == [] and all(isinstance(image, survey.Usable) for image in images)


def test_the_default_run_validates_on_enough_that_no_shipped_weights_were_trained_on(default_run):
    images, spec = default_run
    splits = survey.assign_splits(images, spec)
    held = [image for image in images if splits[image.sha256] == "val"]
    assert len(held) >= 12 and sum(len(survey.cut(image, "val", spec)) for image in held) >= 24
    card = (ROOT / "data/pretrained/nano/README.md").read_text()
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    known = {row.split(" | ")[0].strip("| ") for row in rows if " the Python package " in row} | {"brick.png"}
    assert {image.photograph.path for image in images if image not in held} == known  # brick: brick_wall_gray.png there
    assert "scikit-image/scikit-image: src/_skimage2/data/brick.png" in card


def test_a_copy_of_a_held_out_photograph_is_held_out_too(default_run):
    images, spec = default_run
    astronaut = next(image for image in images if image.photograph.path == "astronaut.png")
    for number in range(8):
        copy = replace(astronaut, photograph=Photograph("folder", "a.jpg"), sha256=f"{number:x}" * 64, pixels_sha256="")
        assert survey.assign_splits([*images, copy], spec)[copy.sha256] == "val"


def test_folders_are_searched_and_every_reject_has_a_reason(tmp_path):
    photograph(tmp_path / "a.png", 1)
    photograph(tmp_path / "sub" / "b.PNG", 2)
    photograph(tmp_path / "copy.png", 1)
    photograph(tmp_path / "small.png", 3, (100, 400))
    Image.new("1", (MAX_SIDE + 1, 128)).save(tmp_path / "long.png")  # its last corner would have no key
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    (tmp_path / "empty.png").touch()
    (tmp_path / "movie.gif").write_bytes(b"GIF89a")
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / ".hidden.png").write_text("not looked at")
    images, rejects = surveyed(tmp_path)
    assert [image.photograph.path for image in images] == ["a.png", "sub/b.PNG"]
    assert {r.photograph.path: r.reason for r in rejects} == {
        "copy.png": "duplicate",
        "small.png": "too_small",
        "long.png": "too_large",
        "broken.jpg": "corrupt",
        "empty.png": "empty",
        "movie.gif": "unsupported_format",
    }
    assert Sources((), tmp_path).photographs()[1] == 1


def test_the_last_corner_of_the_largest_picture_has_a_key():
    (_, x), *_ = reversed(grid(1, MAX_SIDE, 1, 1))
    assert KEY.fullmatch(make_key("0" * 64, 0, x)) and not KEY.fullmatch(make_key("0" * 64, 0, x + 1))


@pytest.mark.parametrize("text", ['{"key": "0', '{"key": "0"}\n', "[]\n"])
def test_a_damaged_list_of_patches_says_what_to_run(tmp_path, text):
    (tmp_path / "patches.jsonl").write_text(text)
    with pytest.raises(UserError, match="is not a list of patches") as error:
        read_patches(tmp_path / "patches.jsonl")
    assert "dvc repro -f ingest" in error.value.remedy


def test_loops_of_links_end(tmp_path):
    photograph(tmp_path / "in" / "a.png", 1)
    os.symlink(tmp_path, tmp_path / "in" / "again")
    assert [p.path for p in Sources((), tmp_path).photographs()[0]] == ["in/a.png"]


def test_a_folder_that_is_not_there_or_no_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Sources((), tmp_path / "none").photographs()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a folder"):
        Sources((), tmp_path / "file").photographs()


def test_a_verdict_is_computed_once_per_content(tmp_path):
    photograph(tmp_path / "a.png", 1)
    store = Memory()
    first = surveyed(tmp_path, store)
    assert store.misses == 1
    assert surveyed(tmp_path, store) == first
    assert store.misses == 1


def test_nothing_to_work_on_and_too_much_unusable_are_refused():
    with pytest.raises(UserError, match="No photographs"):
        survey.refuse_bad_input(0, [], SPEC)
    bad = [survey.Reject(Photograph("folder", f"{i}.png"), "corrupt", "broken") for i in range(12)]
    with pytest.raises(UserError, match=r"(?s)12 of 20 .*and 2 more") as error:
        survey.refuse_bad_input(20, bad, SPEC)
    assert error.value.what.count("\n  folder") == 10
    survey.refuse_bad_input(24, bad, SPEC)
    with pytest.raises(UserError, match="3 of 3"):
        survey.refuse_bad_input(3, bad[:3], SPEC.model_copy(update={"max_reject_rate": 1.0}))


def test_one_image_cannot_be_split_and_two_always_can():
    with pytest.raises(UserError, match="Only 1 usable photograph"):
        survey.assign_splits(usable(1), SPEC)
    for count in range(2, 30):
        splits = survey.assign_splits(usable(count), SPEC)
        assert set(splits.values()) == {"train", "val"}


def test_adding_photographs_moves_no_other_between_splits():
    images = usable(60)
    before = survey.assign_splits(images[:40], SPEC)
    after = survey.assign_splits(images, SPEC)
    assert before == {sha: after[sha] for sha in before}
    assert 5 <= sum(split == "val" for split in after.values()) <= 30


def test_images_too_small_to_validate_on_train():
    images = usable(20, size=150) + usable(22)[20:]
    splits = survey.assign_splits(images, SPEC)
    assert all(splits[image.sha256] == "train" for image in images if image.height == 150)
    with pytest.raises(UserError, match="as large as a validation patch"):
        survey.assign_splits(usable(5, size=150), SPEC)


def test_patches_lie_inside_do_not_overlap_and_are_named_by_content():
    image = usable(1, size=700)[0]
    patches = survey.cut(image, "train", SPEC)
    assert len(patches) == SPEC.max_patches
    assert {(p.y, p.x) for p in patches} <= set(grid(700, 700, 128, 128))
    assert all(p.key == f"{image.sha256[:16]}_{p.y:05d}_{p.x:05d}" and p.size == 128 for p in patches)
    assert survey.cut(image, "val", SPEC)[0].size == 192
