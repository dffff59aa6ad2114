"""Windows that fit the memory there is."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spasemsr.errors import RejectedSample
from spasemsr.methods.protocol import Grid
from spasemsr.upscaling import memory, windows
from spasemsr.upscaling.memory import GIB, Footprint, budget, parse_bytes
from spasemsr.upscaling.settings import Settings
from tests.worlds.tiny_upscaler import SAMPLE

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


def test_the_memory_of_this_process_counts_as_free(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    assert 0 < memory.free_bytes() < 64 * GIB
