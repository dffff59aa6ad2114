"""Pictures restored in batches: as alone but for rounding, whatever stands beside them, and found again by either."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.engine import restoring
from pipeline.engine.executors import Serial
from pipeline.engine.restoring import ToRestore, groups_of, restore_ahead
from spasemsr.cache import Cache
from spasemsr.data.dataset import joined
from spasemsr.evaluation.restoration import CachedRestoration
from spasemsr.methods.noise import Noise
from tests.worlds.siblings import NAMES, sibling
from tests.worlds.small_methods import sampling, small_batch, small_method

TOLERANCE = 2e-5  # of values in [0, 1], docs/gpus.md
KEYS = "a", "b", "c"


@pytest.mark.parametrize("name", ["spasemsr", *NAMES])
def test_a_picture_in_a_batch_is_the_picture_alone(name):
    """Its own noise and conditions, also in tiles, which are batched with it (two of SpaSemSR's, one of the others)."""
    method = small_method() if name == "spasemsr" else sibling(name)
    spec = sampling(solver="ddpm", guidance=3.0, colorfix="adain", tile=16, tile_overlap=0)
    alone = [small_batch([key], 40 if name == "spasemsr" else 24, 32, training=False) for key in "ab"]
    with torch.inference_mode():
        together = method.restore(joined(alone), Noise(1, 0), spec)
        apart = torch.cat([method.restore(batch, Noise(1, 0), spec) for batch in alone])
    assert (together - apart).abs().max() < TOLERANCE
    assert (apart[0] - apart[1]).abs().max() > 0.1


@pytest.mark.parametrize("name", ["spasemsr", *NAMES])
def test_no_bit_of_a_picture_depends_on_its_neighbour(name):
    """Which may have no object, or more than the picture."""
    method = small_method() if name == "spasemsr" else sibling(name)
    spec = sampling(guidance=3.0, colorfix="none", tile=16, tile_overlap=4)
    alone = {key: small_batch([key], 48, 32, training=False) for key in KEYS}
    with torch.inference_mode():
        first, second = (method.restore(joined([alone["a"], alone[key]]), Noise(1, 0), spec)[0] for key in "bc")
    assert torch.equal(first, second)


def test_a_call_always_has_as_many_pictures_and_none_depends_on_the_others(tmp_path):
    method, calls = small_method(), []
    restore = method.restore
    method.restore = lambda batch, *rest: (calls.append(list(batch.keys)), restore(batch, *rest))[1]
    batches = [small_batch([key], training=False) for key in KEYS]
    larger = small_batch(["d"], 24, 16, training=False)
    pair = CachedRestoration(method, Cache(tmp_path / "2"), ["model"], batch_size=2)
    pictures = pair.each([batches[0], larger, *batches[1:]], 1, sampling())
    assert calls == [["a", "b"], ["c", "c"], ["d", "d"]], "one size to a call, which is filled up"
    assert [picture.shape[:2] for picture in pictures] == [(64, 64), (96, 64), (64, 64), (64, 64)]
    again = CachedRestoration(method, Cache(tmp_path / "again"), ["model"], batch_size=2)
    assert np.array_equal(again.each([batches[2], batches[0]], 1, sampling())[1], pictures[0]), "other neighbours"
    del calls[:]
    alone = CachedRestoration(method, Cache(tmp_path / "2"), ["model"])
    assert all(
        np.array_equal(alone(batch, 1, sampling()), pictures[at]) for at, batch in zip((0, 2, 3), batches, strict=True)
    )
    assert not calls, "a batch of another size names other pictures"
    fresh = CachedRestoration(method, Cache(tmp_path / "1"), ["model"])
    assert np.abs(fresh(batches[0], 1, sampling()).astype(int) - pictures[0]).max() <= 1


def test_joined_batches_keep_every_column():
    first, second = (
        replace(small_batch([key]), restored=torch.full((1, 3, 64, 64), float(key == "b"))) for key in "ab"
    )
    both = joined([first, second])
    assert both.keys == ["a", "b"] and both.captions == [*first.captions, *second.captions] and both.hr is None
    assert [each.tags for each in both.objects] == [first.objects[0].tags, []]
    assert both.restored[:, 0, 0, 0].tolist() == [0.0, 1.0] and len(both.moments) == len(both.features["sam"]) == 2
    assert torch.equal(both.lr[1:], second.lr)


def test_stages_have_pictures_of_one_size_sampling_and_seed_restored_together(monkeypatch, tmp_path):
    """By several workers, and by one, which is the stage, where several are taken at once."""

    class Reader:
        def __init__(self, *_):
            pass

        def read(self, key, name):
            return np.zeros((8, 9 if key == "odd" else 8, 3), np.uint8)

    monkeypatch.setattr(restoring, "ColumnReader", Reader)
    spec, other = sampling(), sampling(steps=3)
    wanted = [ToRestore(key, spec, 1) for key in ("a", "odd", "b", "c")]
    wanted += [ToRestore("a", other, 1), ToRestore("a", spec, 2), ToRestore("b", spec, 2, dial=1.0)]
    grouped = [[wanted[0], wanted[2]], [wanted[3]], [wanted[1]], [wanted[4]], wanted[5:]]
    assert [list(group) for group in groups_of(wanted, 2, tmp_path)] == grouped
    assert groups_of(wanted, 1, tmp_path) == [(one,) for one in wanted]

    class Trained:
        def __init__(self):
            self.groups = []

        def have(self, group):
            self.groups.append(list(group))

    class Workers:
        workers, carried = 2, ()

        def map(self, make, items):
            self.carried = items
            return ((item, None) for item in items)

    for batch_size, groups in ((1, [[one] for one in wanted]), (2, grouped)):
        place, workers = (tmp_path, tmp_path, {}, Cache(tmp_path), "fp32", batch_size), Workers()
        restore_ahead(wanted, lambda: pytest.fail("the stage restores itself"), workers, *place, stage="test")
        assert [list(group) for group in workers.carried] == groups
    trained = Trained()
    for batch_size, expected in ((1, []), (2, grouped)):
        place = tmp_path, tmp_path, {}, Cache(tmp_path), "fp32", batch_size
        restore_ahead(wanted, lambda: trained, Serial(), *place, stage="test")
        assert trained.groups == expected
