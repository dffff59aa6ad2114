"""Looking without running: `status` of running stages, `show` one sample, `check` params, columns and packages.

Everything here reads; what it finds wrong is a UserError or a line that says so.
"""

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import layout
from pipeline.engine.account import Account, backend_name, read_accounts
from pipeline.tools import inventory
from spasemsr.cache import default_root
from spasemsr.config import Params, ProfileName, load_params
from spasemsr.data.columns import Column
from spasemsr.data.job import ColumnJob
from spasemsr.data.patches import Patch, of_splits, read_patches
from spasemsr.data.shards import ColumnReader
from spasemsr.data.sources import Sources, missing_from_packages
from spasemsr.errors import UserError
from spasemsr.images.formats import SUFFIXES
from spasemsr.images.names import files_below, is_utf8, shown
from spasemsr.methods.columns import columns_of
from spasemsr.progress import duration

PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "accelerate", "dvc", "webdataset", "basicsr", "numpy")


def status() -> Iterator[str]:
    """One line per column of this workspace: what its last or running stage has counted."""
    accounts = list(read_accounts(default_root(), Path.cwd()))
    if not accounts:
        yield "Nothing was built in this folder yet. Run: dvc repro"
    for account in accounts:
        yield _status_line(account)


def _status_line(account: Account) -> str:
    done = account.cached + account.computed
    parts = [f"{account.column:<18}{account.state:<12}{done}/{account.total}", f"{account.cached} cached"]
    if account.failed:
        errors = ", ".join(f"{kind} {count}" for kind, count in sorted(account.errors.items()))
        parts.append(f"{account.failed} failed ({errors})")
    if account.rate:
        parts.append(f"{account.rate:.3g}/s")
    if account.state == "running" and account.seconds_left is not None:
        parts.append(f"{duration(account.seconds_left)} left")
    parts.append(f"{backend_name(account.identity)}, {account.workers} {account.executor}")
    return " · ".join(parts)


def show(prefix: str) -> Iterator[str]:
    """Everything the columns hold about the sample whose key begins so."""
    patch = _find(prefix)
    yield f"{patch.key}  {patch.split}  {patch.source} {patch.path}  y {patch.y} x {patch.x} size {patch.size}"
    for column in columns_of(load_params().sections()).values():
        if patch.split not in column.splits or not (layout.SHARDS / column.name).is_dir():
            continue
        reader = ColumnReader(layout.SHARDS, column)
        for name, place in sorted(reader.members(patch.key).items()):
            yield f"  {column.name}/{name}  {place.tar} @{place.offset}  {_describe(reader.read(patch.key, name))}"


def _find(prefix: str) -> Patch:
    found = [patch for patch in read_patches(layout.PATCHES) if patch.key.startswith(prefix)]
    if not found:
        raise UserError(f"No key of {layout.PATCHES} begins with {prefix!r}.", "Copy one from there or the report.")
    if len({patch.key for patch in found}) > 1 and prefix != found[0].key:
        first = ", ".join(patch.key for patch in found[:3])
        raise UserError(f"{len(found)} keys begin with {prefix!r}: {first}, ...", "Give more of the key.")
    return found[0]


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    low, mean, high = float(value.min()), float(value.mean(dtype="float64")), float(value.max())
    return f"{value.dtype} {tuple(value.shape)}  min {low:.4g}  mean {mean:.4g}  max {high:.4g}"


def check(params_path: Path, profile: ProfileName | None = None) -> Iterator[str]:
    """Params, photographs, packages, whatever columns exist, and what a profile (default: the active one) needs.

    Raises UserError at the first thing out of order; what the profile lacks is listed first.
    """
    params = load_params(params_path)
    name = profile or params.profile
    yield f"ok  {params_path}: profile {name}"
    yield f"ok  Python {sys.version.split()[0]}: " + ", ".join(f"{n} {importlib.metadata.version(n)}" for n in PACKAGES)
    yield f"ok  photographs: {_photographs(params)}"
    yield from _columns(params)
    yield from _needs(params, name)


def _columns(params: Params) -> Iterator[str]:
    """Hashes and keys of the columns that are built, and whether their models and weights are still the same."""
    from pipeline.jobs import column_jobs

    if not layout.PATCHES.exists():
        yield "--  no columns yet: dvc repro"
        return
    patches = read_patches(layout.PATCHES)
    yield f"ok  {layout.PATCHES}: {len(patches)} patches"
    for job in column_jobs(params):
        column = job.column
        if (layout.SHARDS / column.name).is_dir():
            yield f"ok  column {column.name}: {_verified(column, patches)}"
            if made_otherwise(job, ColumnReader(layout.SHARDS, column).info["identity"]):
                yield f"--  column {column.name} was made with other models or weights: dvc repro -f {column.stage}"
        else:
            yield f"--  column {column.name} is not built: dvc repro {column.stage}"


def made_otherwise(job: ColumnJob, stated: Any) -> bool:
    """Whether what computes a column is not what its `column.json` states.

    DVC does not watch weights: they lie outside the project, and what the registry pins cannot change unseen, but a
    file of the user's, or models.lock.json, can. False where the weights are not here to be compared.
    """
    try:
        return job.identity() != stated
    except UserError:
        return False


def _needs(params: Params, name: ProfileName) -> Iterator[str]:
    """Weights, disk, memory and device. Raises UserError naming how much is missing, after a line for each."""
    from pipeline.planning.hardware import free_disk, hardware
    from pipeline.planning.plan import make_plan, shortages

    here = hardware()
    plan = make_plan(params, name, here)
    yield f"ok  device: {here}"
    lacking = list(shortages(plan))
    for shortage in lacking:
        yield f"!!  {shortage.what}. {shortage.remedy}"
    if lacking:
        raise UserError(f"Profile {name} lacks {len(lacking)} things here, listed above.", lacking[0].remedy)
    yield f"ok  disk: about {plan.disk / 1e9:.1f} GB needed, {free_disk(layout.SHARDS) / 1e9:.0f} GB free"
    yield f"ok  memory: about {plan.train_memory / 1e9:.1f} GB in training, {plan.device_memory / 1e9:.0f} GB there"
    absent = inventory.done_without(plan.profile)
    for model in absent:
        yield f"--  {model}: its package is not installed, and it is done without. Run: make env"
    used = [model for model in inventory.used_by(plan.profile) if model not in absent]
    yield f"ok  weights: {', '.join(used) or 'none needed'}"


def _photographs(params: Params) -> str:
    spec = params.active.data
    if missing := missing_from_packages(spec.packages):
        raise UserError(f"Installed packages lack {', '.join(missing)}.", "Run: make env")
    sources = Sources.of(spec, params.photographs)
    found, ignored = sources.photographs()
    for path in files_below(Path(params.photographs)):
        if not is_utf8(path):
            raise UserError(
                f"The name {shown(path)} is not UTF-8: DVC stops at it without naming it.",
                "Rename it; convmv -r -f latin1 -t utf8 --notest FOLDER does so for a whole folder.",
            )
        if not path.exists():
            raise UserError(
                f"{shown(path)} is a link to nothing: DVC stops at it without naming it.", "Remove it, or repair it."
            )
    named = sum(Path(photograph.path).suffix.lower() in SUFFIXES for photograph in found)
    return f"{named} candidates, {len(found) - named} of other formats, {ignored} other files"


def _verified(column: Column, patches: list[Patch]) -> str:
    """Every tar's hash and every key, compared with what column.json and patches.jsonl state."""
    reader = ColumnReader(layout.SHARDS, column, verify=True)
    expected = {patch.key for patch in of_splits(patches, column.splits)}
    held = set(reader.keys())
    if held != expected:
        lacking, extra = len(expected - held), len(held - expected)
        raise UserError(
            f"Column {column.name!r} lacks {lacking} keys of {layout.PATCHES} and has {extra} others.", column.remedy
        )
    return f"{len(held)} keys in {len(reader.info['tars'])} tars, hashes agree"
