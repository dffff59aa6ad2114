"""SeeSR, SegSR and MegaSR as methods: losses, restoring, tiles, guidance, batches, missing features, columns."""

from dataclasses import replace

import pytest
import torch

from spasemsr.diffusion.spec import SampleSpec
from spasemsr.evaluation.conditions import silenced
from spasemsr.methods import method
from spasemsr.methods.noise import Noise
from tests.worlds.siblings import NAMES, sibling, sibling_batch
from tests.worlds.small_methods import NONE, rows_of, small_batch
from tests.worlds.strict_gpu import StrictGpu

NOISE = Noise(5, 0)


def _sampling(**changes):
    return SampleSpec.model_validate({"solver": "ddpm", "steps": 3, "guidance": 1.0, "colorfix": "none"} | changes)


def _restore(built, batch, **changes):
    return built.restore(batch, NOISE, _sampling(**changes))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def built(name):
    return sibling(name).eval()


def test_losses_are_finite_and_reach_the_network(name):
    built = sibling(name)
    losses = built(sibling_batch(name, built), NOISE)
    assert set(losses) == {"diffusion", *(["labels"] if name == "segsr" else [])}
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    silent = [p for part in built.trainable().values() for p in part.parameters() if p.grad is None]
    assert silent == []


def test_a_gpu_refuses_no_step_for_want_of_determinism(name):
    built = sibling(name)
    batch = sibling_batch(name, built)
    with StrictGpu():
        sum(built(batch, NOISE).values()).backward()


def test_a_batch_of_two_is_two_batches_of_one(name, built):
    batch = sibling_batch(name, built)
    with torch.no_grad():
        together = built(batch, NOISE)["diffusion"]
        apart = torch.stack([built(rows_of(batch, index), NOISE)["diffusion"] for index in range(2)])
    assert torch.allclose(together, apart.mean(), atol=1e-5)


def test_restoring_gives_a_picture_of_the_right_size_and_the_same_one_again(name, built):
    batch = sibling_batch(name, built, training=False, height=12, width=20)
    picture = _restore(built, batch)
    assert picture.shape == (2, 3, 48, 80)
    assert picture.min() >= 0 and picture.max() <= 1
    assert torch.equal(picture, _restore(built, batch))


def test_a_picture_in_no_column_gets_its_features_here(name, built):
    batch = sibling_batch(name, built, training=False)
    assert torch.equal(_restore(built, replace(batch, features={})), _restore(built, batch))


@pytest.mark.parametrize(("height", "width"), [(17, 23), (1, 33)])
def test_a_picture_in_no_column_may_have_any_size(name, built, height, width):
    """Sides that are no whole cells, one of them less than a cell, and one value more than cells that are padded to."""
    batch = replace(small_batch(training=False, height=height, width=width), features={})
    picture = _restore(built, batch, steps=1)
    assert picture.shape == (2, 3, 4 * height, 4 * width) and picture.isfinite().all()


def test_tiles_agree_with_the_whole(name, built):
    batch = sibling_batch(name, built, training=False, height=48, width=48)
    whole, tiled = _restore(built, batch, tile=24), _restore(built, batch, tile=16, tile_overlap=8)
    assert not torch.equal(whole, tiled)
    assert (whole.mean() - tiled.mean()).abs() < 1 / 255


def test_guidance_has_two_branches(name, built):
    batch = sibling_batch(name, built, training=False)
    plain, guided = _restore(built, batch), _restore(built, batch, guidance=3.0)
    assert (plain - guided).abs().max() > 1e-4
    assert built.calls(16, 16, _sampling(guidance=3.0)) == 2 * built.calls(16, 16, _sampling())


def test_the_columns_are_what_the_spec_says(name, built):
    (column,) = method(name).columns()
    assert {column.name, "lr", "latents"} <= built.columns
    assert built.restore_columns == built.columns - {"latents"}
    assert ("objects" in built.columns) == (name != "segsr")
    assert "restored" in sibling(name, input="restored").restore_columns


def test_tags_are_read_where_there_is_a_prompt(name, built):
    batch = sibling_batch(name, built, training=False)
    untagged = replace(batch, objects=[NONE] * 2)
    assert torch.equal(_restore(built, batch), _restore(built, untagged)) == (name == "segsr")


def test_an_untrained_network_is_the_base(name):
    """Guides and prompts of the side modules are not heard before training: only text is, by the base itself."""
    built = sibling(name, redrawn=False).eval()
    batch = sibling_batch(name, built, training=False)
    other = replace(batch, features={key: value.flip(-1) for key, value in batch.features.items()})
    assert torch.equal(_restore(built, batch), _restore(built, other))


def test_seesr_prompts_alone():
    batch = sibling_batch("seesr", sibling("seesr"), training=False)
    untagged = replace(batch, objects=[NONE] * 2)
    unseen = replace(batch, features={"soft": torch.zeros_like(batch.features["soft"])})
    hard, soft = sibling("seesr", prompts="hard").eval(), sibling("seesr", prompts="soft").eval()
    assert torch.equal(_restore(hard, batch), _restore(hard, unseen))
    assert not torch.equal(_restore(hard, batch), _restore(hard, untagged))
    assert torch.equal(_restore(soft, batch), _restore(soft, untagged))
    assert not torch.equal(_restore(soft, batch), _restore(soft, unseen))


def test_declared_conditions_are_what_a_method_follows(name, built):
    """Silencing the features of a condition changes the result; another picture's are those of its own extractors."""
    batch = sibling_batch(name, built, training=False)
    own = _restore(built, batch)
    assert set(built.condition_features) <= built.conditions
    for names in built.condition_features.values():
        assert not torch.equal(own, _restore(built, silenced(batch, names)))
    again = built.seeing(silenced(batch, sum(built.condition_features.values(), ())), built._lr_up(batch))
    assert all(torch.equal(again.features[key], value) for key, value in batch.features.items())
