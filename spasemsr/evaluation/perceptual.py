"""Learned metrics through pyiqa, by name: DISTS, MUSIQ, MANIQA by two weights, CLIP-IQA.

Their weights are read where pyiqa and torchvision look for them and are never downloaded here: a metric whose files are
absent is refused by name, file and place. Before pyiqa unpickles a file, its digest is compared with the one its name
or its address states, and it must load as tensors only. Networks are built when the first image is scored.
"""

import contextlib
import importlib.metadata
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from spasemsr.errors import UserError
from spasemsr.hashing import sha256_file
from spasemsr.pixels import ImageU8, to_tensor
from spasemsr.weights.tensors import read_state_dict, require_whole


@dataclass(frozen=True)
class Needed:
    """One weight file: its folder below $TORCH_HOME/hub, its name, how its sha256 begins ("" where none is known).

    `repository` instead of a folder: the file is in the Hub cache.
    """

    folder: str
    name: str
    sha256: str = ""
    repository: str = ""


@dataclass(frozen=True)
class Perceptual:
    """What distinguishes one metric from the next."""

    label: str
    higher_is_better: bool
    needs_reference: bool
    decimals: int
    files: tuple[Needed, ...]
    recipe: str


_ORIGINS = {
    "checkpoints": "torchvision's models, download.pytorch.org/models",
    "pyiqa": "Hub repository chaofengc/IQA-PyTorch-Weights",
    "clip": "OpenAI's CLIP release",
}
_MUSIQ = "e95806b9eae5f3814c410f574ba8e552362bd5bc63d758ed5b97860f5d6185aa"
_CLIP_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
_MANIQA_KONIQ = "a207f8ab57322e6be38ff5c8d019301dc032b454bef21c3c9f9dbf7974eebff6"
_VIT = Needed("", "model.safetensors", repository="timm/vit_base_patch8_224.augreg2_in21k_ft_in1k")
METRICS = {
    "dists": Perceptual(
        "DISTS",
        False,
        True,
        4,
        (
            Needed("checkpoints", "vgg16-397923af.pth", "397923af"),
            Needed("pyiqa", "DISTS_weights-f5e65c96.pth", "f5e65c96"),
        ),
        "VGG16, RGB in [0, 1]",
    ),
    "musiq": Perceptual(
        "MUSIQ",
        True,
        False,
        2,
        (Needed("pyiqa", "musiq_koniq_ckpt-e95806b9.pth", _MUSIQ),),
        "trained on KonIQ-10k, RGB in [0, 1]",
    ),
    "maniqa": Perceptual(
        "MANIQA",
        True,
        False,
        4,
        (
            Needed("pyiqa", "ckpt_koniq10k.pt", _MANIQA_KONIQ),
            _VIT,
        ),
        "trained on KonIQ-10k, 20 uniform crops of 224 px, RGB in [0, 1]",
    ),
    "maniqa-pipal": Perceptual(
        "MANIQA-PIPAL",
        True,
        False,
        4,
        (
            Needed("pyiqa", "MANIQA_PIPAL-ae6d356b.pth", "ae6d356b"),
            _VIT,
        ),
        "trained on PIPAL, 20 uniform crops of 224 px, RGB in [0, 1]",
    ),
    "clipiqa": Perceptual(
        "CLIPIQA",
        True,
        False,
        4,
        (Needed("clip", "RN50.pt", _CLIP_RN50),),
        "CLIP RN50, pyiqa's five pairs of prompts, RGB in [0, 1]",
    ),
}


class PerceptualScore:
    """(restored, hr) -> score; hr is not looked at where the metric needs no reference."""

    def __init__(self, name: str) -> None:
        """Raises UserError where a file is absent, or is not the one its name states."""
        self._name, self._metric = name, METRICS[name]
        digests = [verify(name, file) for file in self._metric.files]
        self.weights = ", ".join(f"{f.name} sha256:{d[:16]}" for f, d in zip(self._metric.files, digests, strict=True))
        self.version = importlib.metadata.version("pyiqa")
        self._network: Any = None

    def __call__(self, restored: ImageU8, hr: ImageU8) -> float:
        """Score one image."""
        import torch

        if self._network is None:
            self._network = _build(self._name)
        images = (restored, hr) if self._metric.needs_reference else (restored,)
        with torch.inference_mode():
            return float(self._network(*(to_tensor(image) for image in images)).item())


def _build(name: str) -> Any:
    """pyiqa's network, on a GPU where there is one; what it prints goes to the log's stream."""
    import torch

    with contextlib.redirect_stdout(sys.stderr):
        import pyiqa

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return pyiqa.create_metric(name, device=device)


@cache
def verify(metric: str, file: Needed) -> str:
    """The sha256 of a weight file. Raises UserError where it is absent, cut off, or not the file its name states."""
    path = _place(file)
    if path is None or not path.is_file():
        origin = f"Hub repository {file.repository}" if file.repository else _ORIGINS[file.folder]
        where = "the Hub cache" if file.repository else str(_hub_folder() / file.folder)
        raise UserError(
            f"{metric} needs {file.name}, which is not on this machine.",
            f"Put it into {where} (it is in {origin}), or leave {metric} out of the metrics.",
        )
    sha256 = sha256_file(path)
    if not sha256.startswith(file.sha256):
        raise UserError(
            f"{metric}: {path} has sha256 {sha256[:16]}, not {file.sha256[:16]}.",
            "Delete it and put the right file there.",
        )
    if path.suffix == ".safetensors":
        require_whole(path)
    elif metric != "clipiqa":  # a TorchScript archive, whose digest is known in full
        read_state_dict(path)
    return sha256


def _place(file: Needed) -> Path | None:
    if not file.repository:
        return _hub_folder() / file.folder / file.name
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(file.repository, file.name)
    return Path(cached) if isinstance(cached, str) else None


def _hub_folder() -> Path:
    """torch.hub's folder, without importing torch."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_HOME") or Path(cache_home) / "torch").expanduser() / "hub"
