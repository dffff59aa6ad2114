"""Windows that fit the memory there is."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr import Upscaler
from spasemsr.backends.restorer import bytes_for
from spasemsr.backends.restorer.spec import AwareRestorerSpec, dialed
from spasemsr.errors import RejectedSample
from spasemsr.methods.protocol import Grid
from spasemsr.methods.spasemsr.face import FACE
from spasemsr.upscaling import memory, windows
from spasemsr.upscaling.colour import bytes_beside
from spasemsr.upscaling.memory import GIB, Footprint, budget, parse_bytes
from spasemsr.upscaling.settings import Settings
from tests.worlds import ROOT
from tests.worlds.tiny_upscaler import SAMPLE, tiny_config

GRID = Grid(channels=48, cell=8, width=16, learned=False)


# Memory.


@given(st.integers(8, 6000), st.integers(8, 6000), st.floats(1.2, 40.0), st.booleans())
@settings(max_examples=100, deadline=None)
def test_windows_are_chosen_for_the_limit(height, width, gigabytes, with_map):
    footprint = Footprint(GIB, GIB // 10, 160.0)
    limit = int(gigabytes * GIB)
    try:
        chosen = budget(footprint, height, width, 4, limit, with_map)
    except RejectedSample as rejected:
        assert rejected.reason == "needs_memory" and "--max-memory" in rejected.detail
        return
    assert chosen.expected <= limit
    for window, side in ((chosen.window_height, height), (chosen.window_width, width)):
        assert min(side, windows.MIN_SIDE) <= window <= side


def test_a_gigantic_picture_is_refused_before_any_work(tiny):
    with pytest.raises(RejectedSample, match=r"80000x40000 .* GB"):
        tiny.plan((20_000, 10_000), Settings(), 4 * GIB)


def test_more_memory_is_taken_for_more_tiles_and_guidance():
    plain = Footprint.of(GRID, SAMPLE, workers=1)
    guided = Footprint.of(GRID, SAMPLE.model_copy(update={"guidance": 2.0}), workers=2)
    assert guided.per_tile == 2 * plain.per_tile and guided.per_window_pixel > plain.per_window_pixel


@pytest.mark.parametrize(("text", "expected"), [("4GB", 4 * GIB), ("900 mb", 900 << 20), ("1.5g", 3 * GIB // 2)])
def test_amounts_of_memory(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "4 XB", "-1GB", "0"])
def test_other_words_are_no_amount(text):
    with pytest.raises(ValueError, match="memory"):
        parse_bytes(text)


def test_a_large_process_takes_a_share_of_what_is_free_beside_what_it_holds(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: GIB)
    held = Footprint(at_rest=6 * GIB, per_tile=0, per_window_pixel=100.0)
    assert budget(held, 48, 48, 4).limit == 6 * GIB + 3 * GIB // 4


def test_files_that_a_container_keeps_in_memory_are_free(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CONTAINER", str(tmp_path))
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * GIB))
    assert memory.free_bytes() == 64 * GIB
    (tmp_path / "memory.max").write_text(f"{8 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{8 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {3 * GIB}\ninactive_file {5 * GIB}\n")
    assert memory.free_bytes() == 5 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes() == 64 * GIB


def test_the_larger_network_of_the_sharp_end_counts():
    config = tiny_config()
    restore = AwareRestorerSpec(kind="aware", sharpness=0.2)
    config = config.model_copy(update={"inference": config.inference.model_copy(update={"restore": restore})})
    upscaler = Upscaler(FACE.build(config), config, SAMPLE, workers=1)
    default, sharp, sharp_object = (
        upscaler.plan((400, 300), settings, 8 * GIB).expected
        for settings in (Settings(), Settings(dial=0.6), Settings(dials=(("sky", 1.0),)))
    )
    assert min(sharp, sharp_object) - default > GIB // 4
    assert bytes_for(dialed(restore, 1.0), 256, 256) == bytes_for(dialed(restore, 1.0), 4000, 3000)  # tiles


MEASURED = """
import re
from pathlib import Path
import numpy as np
from spasemsr.upscaling.colour import fix_canvas
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
height, width = {size}
lr = np.full((height // 4, width // 4, 3), 77, np.uint8)
canvas = np.full((height, width, 3), 20000, np.uint16)
fix_canvas({kind!r}, canvas[:, :64].copy(), lr[:, :16], 4)
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
fix_canvas({kind!r}, canvas, lr, 4)
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux says what a process took at most")
@pytest.mark.parametrize("size", [(128, 32768), (1024, 4096)])
@pytest.mark.parametrize("kind", ["wavelet", "adain"])
def test_what_the_colour_fix_takes_is_known(size, kind):
    """Of a picture that is wide and low, strips are mostly what lies around them; here one is in work at a time."""
    code = MEASURED.format(size=size, kind=kind)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    expected = bytes_beside(kind, size[0] // 4, size[1] // 4, 4)
    assert expected / 10 < int(run.stdout) <= expected


def test_the_colour_fix_of_the_whole_result_counts():
    footprint = Footprint(GIB, 0, 100.0)
    windows_alone, coloured = (budget(footprint, 64, 1000, 4, 4 * GIB, colour=taken) for taken in (0, 2 * GIB))
    assert 3 * GIB < coloured.expected < 4 * GIB and windows_alone.expected < 2 * GIB
    assert (windows_alone.window_height, windows_alone.window_width) == (64, 1000)
    with pytest.raises(RejectedSample, match=r"the limit is 3\.0 GB"):
        budget(footprint, 64, 1000, 4, 3 * GIB, colour=2 * GIB)
