"""A training step is counted once for its params, code and libraries, then found in the sample cache.

Counting imports torch and diffusers and runs the step without contents (`training.py`), which takes half a minute;
`spasemsr check` and `plan` answer in seconds where that was done before. Importing this module imports no torch.
"""

import contextlib
import importlib.metadata
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

from pipeline.code import ROOT
from pipeline.planning.step import StepCost
from spasemsr.cache import Cache
from spasemsr.errors import UserError
from spasemsr.hashing import digest_of, fingerprint, sha256_file
from spasemsr.methods.face import Face, Ingredients
from spasemsr.spec import Spec
from spasemsr.training.memory import StateBytes
from spasemsr.training.spec import TrainSpec


def step_cost(face: Face, given: Ingredients, train: TrainSpec, beside: int = 0) -> StepCost:
    """Of one sample of the profile's patches; `beside` are bytes of frozen models that stand beside the network."""
    cache, name = Cache(), _name(face, given, train)
    with contextlib.suppress(UserError):  # planning works where the cache cannot be read or written
        if (stored := cache.get(name)) is not None:
            return _with(_decoded(stored), beside)
    from pipeline.planning.training import trace_step

    cost = trace_step(face, given, train)
    with contextlib.suppress(UserError):
        cache.put(name, json.dumps(asdict(cost)).encode(), "plan")
    return _with(cost, beside)


def _name(face: Face, given: Ingredients, train: TrainSpec) -> str:
    """Of all that a count can depend on: params, the library's code and what counts, versions."""
    values = {field.name: getattr(given, field.name) for field in fields(given)}
    params = {name: value.plain() if isinstance(value, Spec) else value for name, value in values.items()}
    spec = [train.precision, train.optimizer, train.ema_decay > 0]
    code = sorted([*ROOT.glob("spasemsr/**/*.py"), *Path(__file__).parent.glob("*.py")])
    digest = digest_of((path.relative_to(ROOT).as_posix(), sha256_file(path)) for path in code)
    versions = [importlib.metadata.version(library) for library in ("torch", "diffusers")]
    return fingerprint(["step cost", face.name, params, spec, digest, versions])


def _decoded(stored: bytes) -> StepCost:
    found = json.loads(stored)
    return StepCost(**{**found, "state": StateBytes(**found["state"])})


def _with(cost: StepCost, beside: int) -> StepCost:
    return replace(cost, state=replace(cost.state, frozen=cost.state.frozen + beside))
