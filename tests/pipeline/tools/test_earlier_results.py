"""`upscale *.png -o .` run twice: what the first run made is no input of the second, unless it was meant."""

import logging
from pathlib import Path

import pytest

from pipeline.tools.upscale import Request, run
from spasemsr.upscaling.settings import Settings
from tests.worlds.instant_upscaler import InstantUpscaler
from tests.worlds.odd_pictures import picture


@pytest.fixture
def upscale(tmp_path, monkeypatch, caplog):
    """Two originals in a folder, one named like a result, and what restores some inputs there -> what it said."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one.png", "one_x4_x4.png")):
        picture(seed=seed).save(name)
    caplog.set_level(logging.INFO)

    def restore(*inputs: str, out: str = ".", scale: int = 4, with_map: bool = False) -> str:
        caplog.clear()
        assert run(Request(inputs, Path(out), Settings(scale=scale), save_map=with_map), InstantUpscaler) == 0
        return caplog.text

    return restore


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("pattern", [True, False])
def test_a_pattern_names_results_with_their_originals(upscale, pattern):
    def inputs() -> list[str]:  # as this program reads a pattern, and as a shell does
        return ["*.png"] if pattern else sorted(str(path) for path in Path().glob("*.png"))

    assert "2 restored" in upscale(*inputs(), with_map=True)
    before = files()
    said = upscale(*inputs(), with_map=True)
    assert "upscale   2 skipped" in said and files() == before
    assert "left out  4 results of earlier runs, such as one_x4.png, made from one.png; name one without" in said
    said = upscale(*inputs(), out="large", scale=2)  # wherever new results go, as with a folder
    assert "upscale   2 restored" in said and "left out  4 results" in said


def test_results_in_a_folder_of_their_own_are_known_there_alone(upscale):
    upscale("one.png", out="large")
    assert "left out  1 result " in upscale("one.png", "large/one_x4.png", out="large")
    assert "2 restored" in upscale("one.png", "large/one_x4.png", out="larger")


def test_a_result_that_is_named_without_its_original_is_restored(upscale):
    upscale("one.png", out="one.tif")
    for inputs in (["one.tif"], ["one.tif", "one_x4_x4.png"]):
        said = upscale(*inputs, out=str(len(inputs)))
        assert "left out" not in said and Path(f"{len(inputs)}/one_x4.tif").is_file()
    Path("large").mkdir()
    upscale("one.png", out="large/one.png")  # whose sidecar names a picture of its own name
    assert "1 restored" in upscale("large/one.png", out="larger")
