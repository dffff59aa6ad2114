"""The same picture in several files: equal pixels are one image, near copies never stand on both sides of the split."""

import numpy as np
import pytest
from PIL import Image

from spasemsr.data import survey
from spasemsr.data.likeness import NEAR, look_of, near_copies
from spasemsr.data.sources import Photograph
from spasemsr.data.spec import DataSpec
from spasemsr.errors import UserError
from tests.worlds.odd_pictures import encoded
from tests.worlds.photographs import MEASURED, photograph

SPEC = DataSpec(packages=(), val_fraction=0.5, patch=128, stride=128, val_patch=192, max_patches=4, num_buckets=4)
NAMES = ("astronaut", "coffee", "chelsea", "rocket", "camera", "china", "flower", "coins")


def usable(path: str, data: bytes) -> survey.Usable:
    verdict = survey._verdict(data, SPEC)
    same = verdict["pixels_sha256"], int(verdict["look"], 16)
    return survey.Usable(
        Photograph("folder", path), survey.sha256_bytes(data), verdict["height"], verdict["width"], (), *same
    )


@pytest.fixture(scope="module")
def copies() -> list[survey.Usable]:
    """Each photograph as PNG, TIFF, JPEG, and small JPEG."""
    found = []
    for name in NAMES:
        image = Image.fromarray(photograph(name))
        half = image.resize((image.width // 2, image.height // 2))
        for suffix, data in {
            "png": encoded(image, "PNG"), "tif": encoded(image, "TIFF"), "jpg": encoded(image, "JPEG", quality=60),
            "small.jpg": encoded(half, "JPEG", quality=25),
        }.items():  # fmt: skip
            found.append(usable(f"{name}.{suffix}", data))
    return found


def test_equal_pixels_are_one_image(copies):
    images, rejects = survey.drop_duplicates(copies)
    assert {r.photograph.path for r in rejects} == {f"{name}.tif" for name in NAMES}
    assert all(reject.reason == "duplicate" and "the same pixels as" in reject.detail for reject in rejects)
    assert len(images) == 3 * len(NAMES)


def test_near_copies_share_a_split_and_are_counted(copies):
    images, _ = survey.drop_duplicates(copies)
    splits = survey.assign_splits(images, SPEC)
    of_name: dict[str, set[str]] = {}
    for image in images:
        of_name.setdefault(image.photograph.path.split(".")[0], set()).add(splits[image.sha256])
    assert all(len(found) == 1 for found in of_name.values())
    assert set(splits.values()) == {"train", "val"}
    assert survey.summarize(images, [], [], 0)["near_copies"] == 2 * len(NAMES)
    with pytest.raises(UserError, match="copies of one"):
        survey.assign_splits([image for image in images if image.photograph.path.startswith("coffee")], SPEC)


def test_other_photographs_are_no_copies():
    looks = [look_of(photograph(name)) for name in MEASURED]
    assert near_copies(looks) == []
    assert look_of(np.full((40, 60, 3), 7, np.uint8)) == 0 and near_copies([0, 0]) == []


def test_groups_go_through_what_lies_between():
    one, two, three = 0xFFFF, 0xFFFF ^ (1 << NEAR) - 1, 0xFFFF ^ (1 << 2 * NEAR) - 1
    assert near_copies([one, three, 0xF0F0F0F0F0F0, two]) == [[0, 1, 3]]
