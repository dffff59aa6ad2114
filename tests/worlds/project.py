"""A copy of this project in a folder of its own, shrunk to seconds, for tests that run the real `dvc`."""

import copy
import fcntl
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.worlds import ROOT, warm

TRACKED = [
    "cluster",
    "pipeline",
    "spasemsr",
    "dvc.yaml",
    "params.yaml",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots",
    ".dvcignore",
]
TRACKED += [".gitignore", "data/raw/README.md", "data/pretrained/README.md", "data/students/README.md"]
# What finds objects without a network.
REGIONS = {"tagger": {"kind": "palette"}, "detector": {"kind": "components", "min_score": 0.25}}
# Small in every number, the same in every mechanism.
TINY: dict[str, Any] = {
    "degradation.preset": "seesr",
    "embedded.data.packages": ["skimage"],
    "embedded.data.hold_out": "hash",
    **{f"embedded.ground.{role}": spec for role, spec in REGIONS.items()},
    "embedded.evaluate.metrics": ["psnr", "ssim", "niqe"],
    "embedded.evaluate.baselines": ["bicubic", "restorer"],
    "embedded.data.max_patches": 3,
    "embedded.data.val_patch": 192,
    "embedded.data.val_max_patches": 1,
    "embedded.data.variants": 2,
    "embedded.methods.spasemsr.model.unet.block_out_channels": [16, 16, 16, 16],
    "embedded.methods.spasemsr.model.unet.attention_heads": [2, 2, 2, 2],
    "embedded.methods.spasemsr.model.unet.norm_num_groups": 8,
    "embedded.methods.spasemsr.model.encoders.hint_channels": [4, 8, 8, 8],
    "embedded.methods.spasemsr.model.encoders.sem_blocks": 1,
    "embedded.methods.spasemsr.model.fusion_width": 16,
    "embedded.text_encoder.width": 16,
    "embedded.train.init": None,
    "embedded.train.steps": 4,
    "embedded.train.warmup_steps": 2,
    "embedded.train.global_batch": 2,
    "embedded.train.save_every": 2,
    "embedded.train.log_every": 2,
    "embedded.evaluate.sample.steps": 2,
    "embedded.dial.sweeps": ["consistency"],
    "embedded.dial.images": 1,
    "embedded.dial.seeds": 2,
    "embedded.audit.images": 2,
}


class Project:
    """Runs commands in the copy, with a cache of its own and no network."""

    def __init__(self, folder: Path, changes: dict[str, Any] | None = None) -> None:
        """Stages run in forks of a Python that has imported the libraries (tests/worlds/warm.py)."""
        self.folder = folder
        for name in TRACKED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)  # what is compiled in __pycache__ too, which saves seconds
            else:
                shutil.copy(source, target)
        self.cache = folder.parent / f"{folder.name}-cache"
        self.path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {
            **os.environ,
            "PATH": f"{warm.folder()}{os.pathsep}{self.path}",
            "SPASEMSR_CACHE": str(self.cache),
            "DVC_NO_ANALYTICS": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org",
        }  # fmt: skip
        for name in ("SPASEMSR_EXECUTOR", "SPASEMSR_WORKERS", "SPASEMSR_LAUNCH"):
            self.environment.pop(name, None)
        self.change({**TINY, **(changes or {})})
        self.run("git", "init", "-q", "-b", "main")
        self.run("git", "config", "user.name", "test")
        self.run("git", "config", "user.email", "test@example.org")
        self.commit("start")

    def copied_to(self, folder: Path, own_cache: bool = False) -> "Project":
        """The project as it stands, in another folder, for a test to change; by default with the same sample cache."""
        shutil.copytree(self.folder, folder, symlinks=True)
        twin = copy.copy(self)
        twin.folder, twin.environment = folder, dict(self.environment)
        if own_cache:
            twin.cache = folder.parent / f"{folder.name}-cache"
            shutil.copytree(self.cache, twin.cache)
            twin.environment["SPASEMSR_CACHE"] = str(twin.cache)
        return twin

    def change(self, changes: dict[str, Any]) -> None:
        """Set dotted keys of params.yaml."""
        path = self.folder / "params.yaml"
        raw = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *parents, last = key.split(".")
            place = raw
            for part in parents:
                place = place[part]
            place[last] = value
        path.write_text(yaml.safe_dump(raw, sort_keys=False))

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command; a failure shows what it printed."""
        result = subprocess.run(
            command, cwd=self.folder, env={**self.environment, **environment}, text=True, capture_output=True
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} exited {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def repro(self, *targets: str) -> str:
        """`dvc repro`, with all it printed."""
        result = self.run("dvc", "repro", *targets)
        return result.stdout + result.stderr

    def kill_when(self, happened: Callable[[], bool], *command: str, timeout: float = 240) -> None:
        """Start a command with the plain Python, SIGKILL that process alone once something has happened."""
        environment = {**self.environment, "PATH": self.path}
        log = self.folder.parent / f"{self.folder.name}-killed.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=out, stderr=out, start_new_session=True
            )
            deadline = time.monotonic() + timeout
            while not happened():
                assert process.poll() is None, f"ended before it could be killed:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"nothing happened in {timeout} s:\n{log.read_text()}"
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def tree(self, *parts: str) -> dict[str, bytes]:
        """Contents of all files below some folders, by path."""
        files: Iterator[Path] = (path for part in parts for path in sorted((self.folder / part).rglob("*")))
        ours = (path for path in files if path.is_file() and path.name != ".gitignore")  # DVC's, in order of running
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in ours}


def finished_project(folder: Path) -> Project:
    """A copy of the one project whose `dvc repro` has run: the first test that asks runs it, for all workers."""
    made = warm.folder() / "finished"
    made.mkdir(exist_ok=True)
    record = made / "project.pickle"
    with (made / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            project = Project(made / "project")
            project.repro()
            project.commit("first run")
            record.write_bytes(pickle.dumps(project))
    return pickle.loads(record.read_bytes()).copied_to(folder, own_cache=True)
