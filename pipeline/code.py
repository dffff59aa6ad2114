"""The code that a stage lists in `dvc.yaml`: what names its results where no cache key does."""

from pathlib import Path

from spasemsr.hashing import digest_of, sha256_file

ROOT = Path(__file__).parents[1]


def listed_code(stage: str, item: str = "") -> list[Path]:
    """The Python files that a stage of `dvc.yaml` lists, by name or by folder.

    `item` is the method of a stage that is run for each method; `${item.method}` in the list stands for it.
    """
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    deps = [str(dep).replace("${item.method}", item) for dep in stages[stage]["deps"]]
    places = [ROOT / dep for dep in deps if dep.startswith(("pipeline/", "spasemsr/"))]
    return sorted(path for place in places for path in ([place] if place.is_file() else place.rglob("*.py")))


def code_digest(stage: str, item: str = "") -> str:
    """Changes with any of that code and with nothing else."""
    return digest_of((path.relative_to(ROOT).as_posix(), sha256_file(path)) for path in listed_code(stage, item))
