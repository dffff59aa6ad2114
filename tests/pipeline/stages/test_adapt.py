"""Stages teach and adapt: one column of hr, and a student that a kill in the middle does not change by a bit."""

import pytest
import yaml

from pipeline import layout
from pipeline.engine.executors import Serial
from pipeline.stages import adapt, features, teach
from spasemsr.config import load_params, parse_params
from spasemsr.data.dataset import Dataset
from spasemsr.data.patches import write_patches
from spasemsr.errors import UserError
from tests.worlds import ROOT
from tests.worlds.toy_columns import Toy, patches_of, photographs


class Killed(BaseException):
    """Stands for the end of the process: nothing in a stage may catch it."""


def _params(name: str):
    """The default params with one student of lr, trained for five steps."""
    params = load_params(ROOT / "params.yaml")
    train = {"steps": 5, "global_batch": 2, "warmup_steps": 1, "save_every": 2, "log_every": 1, "ema_decay": 0.5}
    learner = params.embedded.learners[name].model_copy(update={"input": "lr", "train": train})
    embedded = params.embedded.model_copy(update={"learners": {name: learner}})
    return params.model_copy(update={"embedded": embedded, "learners": (name,), "methods": ("seesr",)})


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A project's folder with columns hr and lr, and a teacher's column beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPASEMSR_CACHE", str(tmp_path / "cache"))
    patches = patches_of(photographs(4))
    write_patches(layout.PATCHES, patches)
    toy = Toy(tmp_path / "data", tmp_path / "cache")
    toy.hr(patches)
    toy.lr(patches)
    teach.run(_params("edges"), Serial(), "edges")
    return tmp_path


def _outs(folder):
    paths = [*sorted((folder / "data/students/edges").iterdir()), folder / "reports/adapt/edges/losses.csv"]
    return {path.name: path.read_bytes() for path in paths}


def test_a_killed_run_ends_in_the_same_bytes(workspace, monkeypatch):
    params = _params("edges")
    adapt.run(params, "edges")
    undisturbed = _outs(workspace)
    assert {"weights.safetensors", "losses.csv"} == undisturbed.keys()
    assert len(undisturbed["losses.csv"].splitlines()) == 6
    (workspace / "data/students/edges/weights.safetensors").unlink()  # dvc deletes the outs of a stage it runs again

    read = Dataset.batch
    asked = iter(range(100))

    def until_killed(self, samples, seed=0):
        if next(asked) == 4:
            raise Killed
        return read(self, samples, seed)

    monkeypatch.setattr(Dataset, "batch", until_killed)
    with pytest.raises(Killed):
        adapt.run(params, "edges")
    states = [path.name for path in (workspace / "cache/train/adapt-edges.embedded").glob("*/step-*")]
    assert states == ["step-00000004"] or states == ["step-00000002"]
    monkeypatch.setattr(Dataset, "batch", read)
    adapt.run(params, "edges")
    assert _outs(workspace) == undisturbed
    assert not (workspace / "cache/train").exists() or not list((workspace / "cache/train").rglob("step-*"))


def test_a_feature_is_made_by_the_student_and_by_nothing_before_it_is_there(workspace):
    """Of the section that names it; what else can be wrong with learners is refused when params are read."""
    params = _params("edges")
    megasr = params.embedded.methods["megasr"]
    shown = megasr.model.model_copy(update={"input": "lr"})
    methods = params.embedded.methods.model_copy(update={"megasr": megasr.model_copy(update={"model": shown})})
    params = params.model_copy(update={"embedded": params.embedded.model_copy(update={"methods": methods})})
    params = params.model_copy(update={"methods": ("megasr",)})
    (job,) = features.jobs(params, "megasr")
    with pytest.raises(UserError, match=r"data/students/edges/weights\.safetensors"):
        job.identity()
    adapt.run(params, "edges")
    assert job.identity()["edges"]["kind"] == "student_map" and job.identity()["depth"]["kind"] == "sharpness"


@pytest.mark.parametrize(
    ("learners", "said"), [(["dapper"], "learners: dapper is none of"), (["edges"], "edges is shown restored")]
)
def test_a_learner_that_cannot_be_used_is_refused_by_name(learners, said):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw |= {"learners": learners, "methods": ["megasr"]}
    raw["embedded"]["learners"]["edges"]["input"] = "lr"
    with pytest.raises(UserError, match=said):
        parse_params(raw, "params.yaml")
