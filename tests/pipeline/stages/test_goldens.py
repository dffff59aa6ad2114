"""What every column holds for one photograph by each embedded backend, as tests/golden has it.

Cache keys hold versions and no code, so a change of values without a new version would never reach a shard. Values may
differ in the last bits from one processor to another. `python -m tests.pipeline.stages.test_goldens` stores them anew.
"""

import json
import sys
from typing import Any

import numpy as np
import pytest

from pipeline.engine.account import backend_name
from pipeline.jobs import column_jobs
from spasemsr.backends.grounding.spec import GroundSpec
from spasemsr.backends.restorer.spec import BicubicRestorerSpec, CompactRestorerSpec, FilterRestorerSpec
from spasemsr.config import load_params
from spasemsr.data.job import ColumnJob, Sample
from spasemsr.data.patches import Patch, make_key
from spasemsr.data.spec import DegradationSpec
from spasemsr.determinism import pin_threads
from tests.worlds import ROOT
from tests.worlds.photographs import photograph, shrunk

VALUES, ARRAYS = ROOT / "tests/golden/columns.json", ROOT / "tests/golden/columns.npz"
SHA = "ab" * 32
COMPONENTS = {"kind": "components"}
PATCH = Patch(make_key(SHA, 64, 192), "train", 0, "package:skimage", "astronaut.png", SHA, 64, 192, 96)
REMEDY = (
    "{} moved. If that is meant, raise its entry in VERSIONS (spasemsr/data/columns.py for what the stage does, the "
    "role's spec.py for what the backend does), then run: python -m tests.pipeline.stages.test_goldens"
)


def jobs() -> dict[str, ColumnJob]:
    """By column and, where a role has several kinds without weights to fetch, by kind."""
    params = load_params(ROOT / "params.yaml")
    regions = GroundSpec.model_validate(
        {"tagger": {"kind": "palette"}, "detector": COMPONENTS, "segmenter": COMPONENTS}
    )
    embedded = params.embedded.model_copy(update={"ground": regions})  # names: tests/spasemsr/backends/test_names.py
    harsh = DegradationSpec(preset="seesr")
    params = params.model_copy(update={"profile": "embedded", "embedded": embedded, "degradation": harsh})
    found = {job.column.name: job for job in column_jobs(params)}
    others = FilterRestorerSpec(kind="filter"), BicubicRestorerSpec(kind="bicubic"), CompactRestorerSpec(kind="compact")
    for spec in others:
        embedded = params.embedded.model_copy(update={"restore": spec})
        for job in column_jobs(params.model_copy(update={"embedded": embedded})):
            if job.column.name == "restored":
                found[f"restored {spec.kind}"] = job
    return found


def made(job: ColumnJob) -> str:
    """The versions that stand in the cache key."""
    return f"column@{job.column.version} {backend_name(job.identity())}"


def computed(job: ColumnJob) -> dict[str, Any]:
    """The members of one sample; inputs are the photograph itself and a plainly shrunk copy, not other columns."""
    hr = photograph("astronaut")[64:160, 192:288].copy()
    held = {"hr.png": hr, "lr.png": shrunk(hr, 4)}
    inputs = {ref.schema.base: held[ref.schema.base] for ref in job.inputs if "train" in ref.splits}
    variant = 0 if job.column.members_of(0) else None
    pin_threads()
    return job.worker()([Sample(PATCH, variant, inputs)])[0]


@pytest.mark.parametrize("name", jobs())
def test_a_column_holds_what_it_held(name):
    job = jobs()[name]
    stored = json.loads(VALUES.read_text())[name]
    assert made(job) == stored["made"], "a new version: run python -m tests.pipeline.stages.test_goldens"
    members = computed(job)
    with np.load(ARRAYS) as arrays:
        for base, value in members.items():
            if isinstance(value, np.ndarray):
                assert same_array(value, arrays[f"{name}/{base}"]), REMEDY.format(f"{name}/{base}")
            else:
                assert same_value(value, stored[base]), REMEDY.format(f"{name}/{base}")


def same_array(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for roundings: a twentieth of a grey level, or a thousandth of the spread, on average."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64)).mean()
    return bool(difference <= (0.05 if one.dtype == np.uint8 else 1e-3 * other.astype(np.float64).std()))


def same_value(one: Any, other: Any) -> bool:
    if isinstance(other, dict):
        return isinstance(one, dict) and one.keys() == other.keys() and all(same_value(one[k], other[k]) for k in one)
    if isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    return one == pytest.approx(other, rel=1e-3, abs=1e-4) if isinstance(other, float) else one == other


@pytest.mark.parametrize("name", ["restored", "latents"])
def test_a_small_change_is_seen(name):
    with np.load(ARRAYS) as arrays:
        (stored,) = (arrays[key] for key in arrays.files if key.startswith(f"{name}/"))
    changed = stored.copy()
    changed[: len(stored) // 8] += 1
    assert same_array(stored, stored) and not same_array(changed, stored)


def store() -> None:
    values: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, job in jobs().items():
        values[name] = {"made": made(job)}
        for base, value in computed(job).items():
            if isinstance(value, np.ndarray):
                arrays[f"{name}/{base}"] = value
            else:
                values[name][base] = json.loads(json.dumps(value))
    VALUES.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    np.savez_compressed(ARRAYS, **arrays)


if __name__ == "__main__":
    sys.exit(store())
