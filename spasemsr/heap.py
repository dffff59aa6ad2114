"""The heap of a process that restores large pictures: what is freed is used again.

The C library of Linux (glibc) gives blocks above 32 MB back to the system as soon as they are freed and takes each
anew, page by page, which the kernel first fills with zeros: a tenth of a picture's time. Elsewhere nothing happens.
"""

import ctypes
import sys
from functools import cache
from typing import Any

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # of mallopt
_NEVER = (1 << 31) - 1
_LARGEST = 1 << 26  # bytes; larger blocks stay apart, whose pieces would be left between others


@cache
def _glibc() -> Any:
    """The C library, or None where it is another one."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def reuse_freed_memory() -> None:
    """From now on this process keeps what it frees, until `give_memory_back`. No result depends on it."""
    if (glibc := _glibc()) is not None:
        for option, value in ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1)):
            glibc.mallopt(option, value)


def give_memory_back() -> None:
    """Free pages go back to the system, so that what it calls available is."""
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)
