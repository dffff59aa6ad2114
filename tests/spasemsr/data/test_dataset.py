"""The strict join: what batches hold, what is read for them, and what stops them."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch

from spasemsr.data.columns import CAPTION, HR, LATENTS, LR, OBJECTS, RESTORED, Column
from spasemsr.data.dataset import Dataset, collate
from spasemsr.data.job import Sample
from spasemsr.data.order import Draw, SampleOrder
from spasemsr.data.shards import ColumnReader
from spasemsr.errors import UserError
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR
from tests.worlds.toy_columns import Toy, patches_of, photographs, toy_job

PATCHES = patches_of(photographs(6))
TRAINING = [LR, OBJECTS, CAPTION, LATENTS, FEATURES_SPASEMSR]


class Fill:
    """Values that tell which column, patch and variant they belong to."""

    def __init__(self, column: Column) -> None:
        self._column = column

    def __call__(self, samples):
        return [self._values(sample) for sample in samples]

    def _values(self, sample: Sample):
        number = sample.patch.x + 1
        values = {
            "objects.json": {"tags": ["sky"] * number, "boxes": [[0, 0, 1, 0.5]] * number, "scores": [0.5] * number,
                             "source": "hr" if sample.patch.split == "train" else "restored"},
            "masks.png": np.ones((16, 16), np.uint8),
            "restored.png": np.full((16, 16, 3), 10 * number + (sample.variant or 0), np.uint8),
            "caption.json": {"text": f"{sample.patch.key} {sample.variant}", "prompt": "?"},
            "moments.npy": np.full((4, 2, 2), number / 4, np.float16),
            "sam.npy": np.full((3, 2, 2), -number, np.float16),
        }  # fmt: skip
        return {member.base: values[member.base] for member in self._column.members_of(sample.variant)}


def fill(toy: Toy, column: Column, patches=PATCHES, variants: int = 2) -> None:
    job = toy_job(column, partial(Fill, column), kind="fill", version=variants, variants=variants, seed_inputs=_variant)
    toy.build(job, patches)


def _variant(patch, variant):
    return [variant]


@pytest.fixture
def toy(tmp_path) -> Toy:
    toy = Toy(tmp_path)
    toy.hr(PATCHES)
    toy.lr(PATCHES)
    for column in TRAINING[1:]:
        fill(toy, column)
    return toy


def test_a_training_batch_holds_the_drawn_variant_of_every_column(toy):
    dataset = Dataset(toy.shards, TRAINING, "train")
    train = sorted(patch.key for patch in PATCHES if patch.split == "train")
    assert dataset.keys == sorted(key for keys in dataset.keys_by_shard.values() for key in keys) == train
    assert dataset.digests["lr"] == ColumnReader(toy.shards, LR).info["digest"] and len(dataset.digests) == 5
    draws = SampleOrder(dataset.keys_by_shard, 3, 4).at(2)
    batch = dataset.batch(draws, seed=3)
    reader = ColumnReader(toy.shards, LR)
    assert batch.keys == [draw.key for draw in draws] and batch.hr is None
    for i, draw in enumerate(draws):
        k, number = dataset.variant(draw, 3), int(draw.key[-5:]) + 1
        pixels = reader.read(draw.key, f"lr.{k}.png")
        assert torch.equal(batch.lr[i], torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1))
        assert batch.captions[i] == f"{draw.key} {k}"
        objects = batch.objects[i]
        assert objects.tags == ["sky"] * number and objects.source == "hr" and objects.scores == [0.5] * number
        assert objects.boxes.shape == (number, 4) and objects.boxes.dtype == np.float32
        assert torch.equal(batch.moments[i], torch.full((4, 2, 2), number / 4))
        assert torch.equal(batch.features["sam"][i], torch.full((3, 2, 2), -float(number)))
    assert {t.dtype for t in (batch.lr, batch.moments, batch.features["sam"])} == {torch.float32}
    assert batch.to("cpu").keys == batch.keys and batch.lr.is_contiguous()


def test_a_batch_holds_the_restored_image_of_the_drawn_variant(toy):
    fill(toy, RESTORED)
    dataset = Dataset(toy.shards, [LR, RESTORED], "train")
    draws = SampleOrder(dataset.keys_by_shard, 3, 4).at(2)
    batch = dataset.batch(draws, seed=3)
    levels = [10 * (int(draw.key[-5:]) + 1) + dataset.variant(draw, 3) for draw in draws]
    assert batch.restored.shape == (4, 3, 16, 16)
    assert (255 * batch.restored.mean((1, 2, 3))).round().tolist() == levels
    assert dataset.batch(draws, seed=3).to("cpu").restored.equal(batch.restored)


def test_variants_follow_seed_epoch_and_key_and_are_drawn_evenly(toy):
    dataset = Dataset(toy.shards, [LR], "train")
    drawn = [dataset.variant(Draw(key, epoch), 5) for key in dataset.keys for epoch in range(40)]
    assert drawn == [dataset.variant(Draw(key, epoch), 5) for key in dataset.keys for epoch in range(40)]
    assert drawn != [dataset.variant(Draw(key, epoch), 6) for key in dataset.keys for epoch in range(40)]
    assert set(drawn) == {0, 1} and 0.4 < np.mean(drawn) < 0.6


def test_an_evaluation_batch_takes_variant_0_and_what_was_asked_for(toy):
    dataset = Dataset(toy.shards, [LR, HR, OBJECTS], "val")
    batch = dataset.batch(dataset.keys[:1])
    assert batch.lr.shape == (1, 3, 4, 4) and batch.hr.shape == (1, 3, 16, 16) and float(batch.hr.max()) <= 1
    assert (batch.captions, batch.moments, batch.features) == ([], None, {})
    assert batch.objects[0].source == "restored"
    assert batch.to("cpu").moments is None


def test_only_what_a_batch_holds_is_read(toy, monkeypatch):
    read = []
    whole = ColumnReader.read_bytes
    monkeypatch.setattr(ColumnReader, "read_bytes", lambda self, key, name: read.append(name) or whole(self, key, name))
    Dataset(toy.shards, TRAINING, "train").batch([PATCHES[0].key if PATCHES[0].split == "train" else PATCHES[2].key])
    assert sorted(read) == ["caption.0.json", "lr.0.png", "moments.npy", "objects.json", "sam.npy"]


def test_a_key_that_one_column_lacks_stops_the_join_by_name(toy):
    train = [patch for patch in PATCHES if patch.split == "train"]
    fill(toy, OBJECTS, [patch for patch in PATCHES if patch not in train[1:3]])
    with pytest.raises(UserError) as error:
        Dataset(toy.shards, TRAINING, "train")
    first = min(patch.key for patch in train[1:3])
    assert error.value.what == (
        f"column 'objects' lacks 2 of {len(train)} keys of split 'train' (first: {first}). "
        "It was built from other patches."
    )
    assert error.value.remedy == "Run: dvc repro ground"
    Dataset(toy.shards, TRAINING[:1], "train")


def test_other_numbers_of_variants_stop_the_join(toy):
    fill(toy, CAPTION, variants=3)
    with pytest.raises(UserError, match=r"column 'caption' has 3 variants of .*, column 'lr' 2") as error:
        Dataset(toy.shards, TRAINING, "train")
    assert error.value.remedy == "Run: dvc repro caption"


def test_a_missing_column_and_an_empty_split_are_named(toy):
    shutil.rmtree(toy.shards / "features")
    with pytest.raises(UserError, match=r"features/spasemsr/column.json does not exist") as error:
        Dataset(toy.shards, TRAINING, "train")
    assert error.value.remedy == "Run: dvc repro features@spasemsr"
    train = [patch for patch in PATCHES if patch.split == "train"]
    toy.hr(train)
    toy.lr(train)
    with pytest.raises(UserError, match="Split 'val' holds no samples"):
        Dataset(toy.shards, [LR], "val")


def test_pictures_of_different_size_do_not_share_a_batch():
    samples = [{"key": str(size), "lr.png": np.zeros((size, 4, 3), np.uint8)} for size in (4, 5)]
    with pytest.raises(ValueError, match=r"lr.png differs in shape within a batch: 4 \(4, 4, 3\), 5 \(5, 4, 3\)"):
        collate(samples)
    assert collate(samples[:1]).lr.shape == (1, 3, 4, 4)
