"""`spasemsr score --csv --json`: tables are whole, or as they were before."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.tools.score import Request, run
from spasemsr.errors import UserError
from tests.worlds.sample_report import photograph


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    for number, name in enumerate(("a", "b")):
        hr = photograph("chelsea.png", 10 * number, 40, 64)
        for folder, picture in (("hr", hr), ("out", np.roll(hr, 1, axis=0))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f"{name}.png")
    return tmp_path / "out", tmp_path / "hr"


def ask(folders: tuple[Path, Path], **more) -> list[str]:
    return list(run(Request(*folders, **more)))


def test_a_full_disk_takes_neither_the_old_scores_nor_what_the_new_ones_say(folders, tmp_path, monkeypatch):
    ask(folders, csv=tmp_path / "a.csv", json=tmp_path / "a.json")
    before = (tmp_path / "a.csv").read_bytes(), (tmp_path / "a.json").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    for part in ("csv", "json"):
        said = []
        with pytest.raises(OSError, match="full") as error:
            for line in run(Request(*folders, metrics=("psnr",), **{part: tmp_path / f"a.{part}"})):
                said.append(line)
        assert error.value.filename == str(tmp_path / f"a.{part}") and "PSNR-Y" in "".join(said)
    assert before == ((tmp_path / "a.csv").read_bytes(), (tmp_path / "a.json").read_bytes())


def test_one_file_cannot_be_both_tables(folders, tmp_path):
    with pytest.raises(UserError, match=r"--csv and --json are one file, .*a\.csv"):
        ask(folders, csv=tmp_path / "a.csv", json=tmp_path / "." / "hr" / ".." / "a.csv")
