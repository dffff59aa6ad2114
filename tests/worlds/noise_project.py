"""A project folder with a few photographs of noise, in which stages run in this process, and how one is drawn."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pipeline.engine.account import read_accounts
from pipeline.engine.executors import Serial
from spasemsr.cache import Cache
from spasemsr.config import load_params
from tests.worlds import ROOT
from tests.worlds.project import REGIONS


def photograph(path: Path, seed: int, size: int = 200) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size + 60, 3), np.uint8)).save(path)


class NoiseProject:
    """A project folder with a few photographs of noise, in which stages run in this process."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.raw = folder / "work", folder / "photographs"
        self.folder.mkdir()
        self.raw.mkdir()
        for seed in range(3):
            photograph(self.raw / f"{seed}.png", seed)
        monkeypatch.chdir(self.folder)
        monkeypatch.setenv("SPASEMSR_CACHE", str(folder / "cache"))
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text())
        self.params["photographs"] = str(self.raw)
        small = {"packages": [], "max_patches": 2, "val_patch": 192, "val_max_patches": 1, "num_buckets": 2}
        self.params["embedded"]["data"].update(small)
        self.params["embedded"]["ground"].update(REGIONS, textures=None)
        self.params["degradation"]["preset"] = "seesr"

    def run(self, *stages: str) -> dict[str, tuple[int, int]]:
        """Computed and cached samples by stage."""
        Path("params.yaml").write_text(yaml.safe_dump(self.params))
        for stage in stages:
            arguments = ["spasemsr"] if stage == "features" else []
            import_module(f"pipeline.stages.{stage}").run(load_params(), Serial(), *arguments)
        accounts = {a.stage.partition("@")[0]: a for a in read_accounts(Cache().root, Path.cwd())}
        return {stage: (accounts[stage].computed, accounts[stage].cached) for stage in stages}

    def rejects(self) -> dict[str, str]:
        lines = map(json.loads, Path("data/rejects.jsonl").read_text().splitlines())
        return {line["path"]: line["reason"] for line in lines}
