"""Freed memory is used again, and given back before what is free is counted."""

import subprocess
import sys

import pytest

from spasemsr.heap import _glibc

MEASURED = """
import resource
from spasemsr import heap
if {reuse}:
    heap.reuse_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def taken():
    before = faults()
    bytearray(48 << 20)
    return faults() - before
first = taken()
again = taken()
heap.give_memory_back()
print(first, again, taken())
"""


@pytest.mark.skipif(_glibc() is None, reason="another C library")
def test_large_blocks_are_taken_from_the_system_once():
    def pages(reuse: bool) -> list[int]:
        code = MEASURED.format(reuse=reuse)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    (first, again, _), (kept, reused, returned) = pages(False), pages(True)
    assert again > first / 2  # as many page faults as the system's page size takes
    assert reused < kept / 10 and returned > kept / 2


def test_nothing_happens_with_another_c_library(monkeypatch):
    from spasemsr import heap

    monkeypatch.setattr(heap, "_glibc", lambda: None)
    heap.reuse_freed_memory()
    heap.give_memory_back()
