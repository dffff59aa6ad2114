"""Where everything lies, relative to the project's folder: the outs of `dvc.yaml`, spelled once."""

from pathlib import Path

PATCHES = Path("data/patches.jsonl")
REJECTS = Path("data/rejects.jsonl")
SHARDS = Path("data/shards")
MODELS = Path("models")
REPORTS = Path("reports")
INGEST_REPORT = REPORTS / "ingest.json"
GROUND_REPORT = REPORTS / "ground.json"
PAGE = REPORTS / "report.html"
TRADEOFF = REPORTS / "tradeoff.csv"
SUMMARY = REPORTS / "summary.json"


def model_folder(method: str) -> Path:
    """Weights and config of a trained method."""
    return MODELS / method


def losses_csv(method: str) -> Path:
    """The training curve that `dvc plots` draws."""
    return REPORTS / "train" / method / "losses.csv"


def images_folder(method: str) -> Path:
    """Pictures written by evaluation: `<key>.<what>.png`."""
    return REPORTS / "images" / method


def scores_folder(method: str) -> Path:
    """Per-image scores, their means and intervals."""
    return REPORTS / "evaluate" / method
