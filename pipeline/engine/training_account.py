"""The account of a training run: rate, peak memory and MFU of the last one of each method in a workspace.

Lies beside the columns' accounts, `<cache>/accounts/<hash of the workspace's path>/train/<method>.<profile>.json`,
never in an out: it would differ from run to run.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

from pipeline.engine.account import accounts_folder
from spasemsr import atomic
from spasemsr.training.spent import Spent


def record(cache_root: Path, workspace: Path, method: str, profile: str, spent: Spent) -> None:
    """Replace the account of a method under a profile; a full or read-only disk never fails the run."""
    path = _folder(cache_root, workspace) / f"{method}.{profile}.json"
    with contextlib.suppress(OSError):
        atomic.write_text(path, json.dumps(asdict(spent), sort_keys=True) + "\n")


def read(cache_root: Path, workspace: Path, profile: str) -> Iterator[tuple[str, Spent]]:
    """Methods and what their last runs under a profile took; what is damaged or of another version is passed over."""
    for path in sorted(_folder(cache_root, workspace).glob(f"*.{profile}.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            yield path.name.partition(".")[0], Spent(**{field.name: values[field.name] for field in fields(Spent)})


def _folder(cache_root: Path, workspace: Path) -> Path:
    return accounts_folder(cache_root, workspace) / "train"
