"""The column of what is shown: what each unit holds, under which name, and that it equals what restoring makes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from spasemsr.backends.restorer.spec import AwareRestorerSpec
from spasemsr.config import load_params
from spasemsr.data.job import Sample
from spasemsr.data.patches import Patch, make_key
from spasemsr.methods import method
from spasemsr.methods.dialed import at_dial, restorer_dials
from spasemsr.pixels import to_tensor
from tests.worlds import ROOT
from tests.worlds.photographs import photograph
from tests.worlds.siblings import NAMES, sibling, sibling_batch
from tests.worlds.small_methods import small_batch

SHA = "ab" * 32
PATCH = Patch(make_key(SHA, 0, 0), "train", 0, "package:skimage", "astronaut.png", SHA, 0, 0, 96)


def _job(name):
    (job,) = method(name).jobs(load_params(ROOT / "params.yaml").ingredients(name, "embedded"))
    return job


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_holds_the_members_of_its_kind_as_the_column_states_them(name):
    job, picture = _job(name), photograph("astronaut", 96)
    inputs = {"restored.png": picture, "hr.png": picture}
    worker = job.worker()
    for variant in {None, 0} if job.column.members_of(None) else {0}:
        (members,) = worker([Sample(PATCH, variant, inputs)])
        assert set(members) == {member.base for member in job.column.members_of(variant)}
        for base, value in members.items():
            job.column.member(base).encode(value)  # refuses another type or shape


def test_hr_and_the_first_version_have_results_of_their_own():
    """Both read the same two inputs, so the name of a result must say which of them it is about."""
    job = _job("segsr")
    assert job.seed_inputs(PATCH, None) != job.seed_inputs(PATCH, 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_degraded_version_is_made(name):
    assert _job(name).variants == load_params(ROOT / "params.yaml").embedded.data.variants


@pytest.mark.parametrize("name", NAMES)
def test_what_a_batch_holds_is_not_made_again(name):
    built = sibling(name)
    batch = sibling_batch(name, built, training=False)
    assert built.extractors.completed(batch, built._lr_up(batch)) is batch


@pytest.mark.parametrize("name", NAMES)
def test_at_another_dial_features_are_of_the_image_that_the_network_is_shown(name):
    built = sibling(name, input="restored", schedule={"prediction": "residual"})
    batch = replace(small_batch(["a"], 32, 32, training=False), features={})
    batch = replace(batch, lr=to_tensor(photograph("astronaut", 32)).contiguous(), restored=torch.rand(1, 3, 128, 128))
    column = built.extractors.completed(batch, batch.restored)
    restore = AwareRestorerSpec(kind="aware", sharpness=0.2)
    config = SimpleNamespace(scale=4, inference=SimpleNamespace(restore=restore))
    assert restorer_dials(built, config) and at_dial(column, built, config, 0.5) is column
    sharp = at_dial(column, built, config, 1.0)
    anew = built.extractors.completed(replace(batch, restored=sharp.restored), sharp.restored)
    assert all(torch.equal(sharp.features[name], value) for name, value in anew.features.items())
    assert not any(torch.equal(column.features[name], value) for name, value in anew.features.items())
