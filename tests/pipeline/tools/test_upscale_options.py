"""`spasemsr upscale`: names that are empty or cannot be, two sizes, and devices on which nothing can be computed."""

import errno

import pytest
import typer
from typer.testing import CliRunner

from pipeline.commands.pictures import upscale
from spasemsr import atomic
from spasemsr.errors import UserError
from spasemsr.upscaling import files
from tests.worlds.tiny_upscaler import photograph

app = typer.Typer()
app.command()(upscale)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.png", "-o", "out", "--tags", "@0.5,0,0.6,1"], "does not say what is there"),
        (["a.png", "", "-o", "out"], "an empty name"),
        (["a.png", "-o", ""], "an empty name"),
        (["a.png", "-o", "out", "--weights", ""], "an empty name"),
        (["a.png", "-o", "out", "--scale", "4", "--width", "32"], "two sizes"),
        (["a.png", "-o", "out", "--width", "32", "--fit", "inside"], "a width and a height, and one is missing"),
        (["a.png", "-o", "out", "--scale", "2", "--fit", "crop"], "a width and a height, and one is missing"),
        (["a.png", "-o", "out", "--device", "gpu"], "nothing can be computed on 'gpu'"),
        (["a.png", "-o", "out", "--device", ""], "nothing can be computed on ''"),
        (["a.png", "-o", "out", "--device", "meta"], "nothing can be computed on 'meta'"),
    ],
)
def test_they_are_refused_before_any_work(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    photograph(16, 12).save("a.png")
    refused = CliRunner().invoke(app, arguments)
    assert told in f"{refused.output} {refused.exception}" and [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_its_disk_cannot_name_is_said(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(atomic, "trial", refuse)
    with pytest.raises(UserError, match=r"a:b: Invalid argument"):
        files.require_writable(tmp_path / "a:b")
