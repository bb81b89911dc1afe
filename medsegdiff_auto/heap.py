"""Freed memory that a CPU process keeps for its next tensors, instead of handing every one back to the system.

glibc gives large blocks back as soon as they are free, and the system clears each page that it hands out again, which
takes longer than half of the arithmetic (results/cost_inference.md). Where the C library is another one, nothing
happens.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
LARGEST_REUSED_BYTES = 2 ** 30  # larger blocks are the system's as before: whole volumes, not tiles
MOST_KEPT_BYTES = 2 ** 31 - 1  # at the end of the heap; mallopt takes an int


def keep_freed_memory() -> bool:
    """Blocks of less than 1 GiB are reused from now on, and up to 2 GiB kept; False where the C library has no such
    setting.

    All threads share one heap: what one has freed another cannot reuse otherwise, and the peak would exceed the stated
    one (results/cost_inference.md).
    """
    libc = _glibc()
    return libc is not None and bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST_REUSED_BYTES)
                                     and libc.mallopt(M_TRIM_THRESHOLD, MOST_KEPT_BYTES)
                                     and libc.mallopt(M_ARENA_MAX, 1))


def give_back_freed_memory() -> None:
    """All free pages to the system, before somebody asks what is free."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
