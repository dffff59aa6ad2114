"""`dvc repro` with `profile: foundation` on tiny checkpoints in the layouts of the real models: no other code."""

import pytest

from tests.worlds.project import Project
from tests.worlds.tiny_checkpoints import foundation_params, write_all

pytestmark = pytest.mark.timeout(1800)  # whole pipelines


def test_the_foundation_profile_runs_end_to_end(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    write_all(checkpoints)
    changes = {"profile": "foundation", **foundation_params(checkpoints)}
    project = Project(tmp_path / "project", changes)
    project.repro()
    scores = project.json("reports/evaluate/spasemsr/metrics.json")["val"]
    assert set(scores) == {"spasemsr", "bicubic", "restorer", "hr"}
    assert all(10 < scores[method]["psnr"] < 60 for method in ("spasemsr", "bicubic", "restorer"))
    sweep = (project.folder / "reports/dial/spasemsr.csv").read_text().splitlines()
    assert [line.split(",")[1:3] for line in sweep[1:]] == [["guidance", v] for v in ("1", "2", "3", "4.5", "5.5")]
    model = project.json("models/spasemsr/config.json")
    assert model["identities"]["text_encoder"]["kind"] == "clip"
    assert len(model["identities"]["autoencoder"]["weights_sha256"]) == 64
    assert project.json("reports/ground.json")["images"] == sum(project.json("reports/ingest.json")["patches"].values())
