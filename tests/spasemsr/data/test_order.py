"""The order of samples: every sample once per epoch, the same for any world size and any point of resuming."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.data.order import SampleOrder, sample_order
from spasemsr.errors import UserError
from spasemsr.methods.noise import Noise

SHARDS = (
    st.lists(st.integers(0, 6), min_size=1, max_size=7)
    .filter(any)
    .map(lambda sizes: {f"train-{i:05d}.tar": [f"{i}-{j}" for j in range(size)] for i, size in enumerate(sizes)})
)


@settings(deadline=None)
@given(shards=SHARDS, seed=st.integers(0, 99), window=st.integers(1, 4), batch=st.integers(1, 8))
def test_an_epoch_holds_every_sample_once_wherever_its_steps_begin(shards, seed, window, batch):
    order = SampleOrder(shards, seed, batch, window)
    keys = sorted(key for members in shards.values() for key in members)
    steps = -(-3 * len(keys) // batch)
    draws = [draw for step in range(steps) for draw in order.at(step)]
    for epoch in range(3):
        assert sorted(draw.key for draw in draws if draw.epoch == epoch) == keys
        assert sorted(sample_order(shards, seed, epoch, window)) == keys
    assert [draw.epoch for draw in draws] == sorted(draw.epoch for draw in draws)


@settings(deadline=None)
@given(
    shards=SHARDS, seed=st.integers(0, 99), world=st.integers(1, 6), per_rank=st.integers(1, 3), step=st.integers(0, 50)
)
def test_ranks_share_the_global_batch_and_any_step_can_be_the_first(shards, seed, world, per_rank, step):
    batch = world * per_rank
    alone = SampleOrder(shards, seed, batch)
    for earlier in range(step):
        alone.at(earlier)
    resumed = SampleOrder(shards, seed, batch)
    together = [draw for rank in range(world) for draw in resumed.at(step, rank, world)]
    assert together == alone.at(step)
    assert all(len(resumed.at(step, rank, world)) == per_rank for rank in range(world))


def test_a_sample_that_a_step_holds_twice_has_noise_of_its_own_each_time():
    order = SampleOrder({"train-00000.tar": ["a", "b", "c"]}, seed=5, global_batch=8)
    draws = [draw for rank in range(4) for draw in order.at(1, rank, 4)]
    names = [draw.name for draw in draws]
    assert len(set(names)) == 8 and {"a", "b", "c"} < set(names)
    assert {name.partition("+")[0] for name in names} == {"a", "b", "c"}
    noise = Noise(5, 1).gaussian("noise", names, (4,))
    assert len({tuple(row.tolist()) for row in noise}) == 8


def test_samples_mix_within_a_window_of_shards_and_epochs_differ():
    shards = {f"train-{i:05d}.tar": [f"{i:02d}-{j:02d}" for j in range(20)] for i in range(8)}
    order = sample_order(shards, seed=1, epoch=0, window=2)
    for start in range(0, 160, 40):
        assert len({key[:2] for key in order[start : start + 40]}) == 2
        assert len({key[:2] for key in order[start : start + 10]}) == 2
    epochs = [tuple(sample_order(shards, 1, epoch, 2)) for epoch in range(4)]
    assert len({*epochs, tuple(sample_order(shards, 2, 0, 2))}) == 5
    first = Counter(sample_order(shards, seed, 0, 8)[0] for seed in range(200))
    assert max(first.values()) < 12  # 160 equally likely


def test_misuse_is_refused():
    with pytest.raises(UserError, match="no samples"):
        SampleOrder({"train-00000.tar": []}, 0, 4)
    with pytest.raises(UserError, match="4, which 3 processes cannot share"):
        SampleOrder({"train-00000.tar": ["a"]}, 0, 4).at(0, 0, 3)
