"""Weights that change under a column: noticed by its identity."""

import json

import pytest
import torch

from pipeline.jobs import column_jobs
from pipeline.tools import inspection
from spasemsr.config import load_params, parse_params
from spasemsr.data.columns import COLUMNS
from spasemsr.methods.spasemsr.features import FEATURES as FEATURES_SPASEMSR
from tests.worlds import ROOT
from tests.worlds.tiny_checkpoints import SAM, write_sam


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml")


def jobs(params):
    return {job.column.name: job for job in column_jobs(params)}


def test_a_column_made_with_other_weights_is_noticed(params, tmp_path):
    path = tmp_path / "sam.pth"
    spec = {"kind": "sam", "source": str(path), "architecture": SAM, "precision": "fp32"}
    raw = params.plain()
    raw["embedded"]["methods"]["spasemsr"]["features"]["sam"] = spec
    job = jobs(parse_params(raw, "params.yaml"))["features/spasemsr"]
    torch.manual_seed(1)
    write_sam(path)
    stated = job.identity()
    assert len(stated["weights_sha256"]) == 64
    assert not inspection.made_otherwise(job, stated)
    write_sam(path)  # other random weights
    assert inspection.made_otherwise(job, stated)
    path.unlink()
    assert not inspection.made_otherwise(job, stated)


def test_weight_free_columns_are_known_by_their_backends(params):
    assert set(jobs(params)) == {*COLUMNS, FEATURES_SPASEMSR.name}
    for job in jobs(params).values():
        assert not inspection.made_otherwise(job, json.loads(json.dumps(job.identity())))
        assert inspection.made_otherwise(job, {"kind": "another"})
