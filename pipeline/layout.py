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


def student_losses_csv(learner: str) -> Path:
    """The curve of a student's training."""
    return REPORTS / "adapt" / learner / "losses.csv"


def validation_csv(method: str) -> Path:
    """Losses of samples that are held out of training, where there are such."""
    return losses_csv(method).with_name("validation.csv")


def images_folder(method: str) -> Path:
    """Pictures written by evaluation: `<key>.<what>.png`."""
    return REPORTS / "images" / method


def scores_folder(method: str) -> Path:
    """Per-image scores, their means and intervals."""
    return REPORTS / "evaluate" / method


def audit_folder(method: str) -> Path:
    """What guidance does: `audit.json`, and its means in `metrics.json`."""
    return REPORTS / "audit" / method


def sweep_csv(method: str) -> Path:
    """Scores of a method at other sampling-time settings."""
    return REPORTS / "dial" / f"{method}.csv"


def map_means(method: str) -> Path:
    """How much a method makes up and contradicts, on average."""
    return REPORTS / "dial" / f"{method}.json"


def maps_folder(method: str) -> Path:
    """Where a method makes things up and contradicts lr: `<key>.<map>.png` and `maps.csv`."""
    return REPORTS / "maps" / method
