"""Large arrays without the price of fresh pages.

Linux gives a process memory in pages of 4 KB and clears each at its first use; for an array of
many megabytes that is made, filled once and freed, this costs several times the filling.
"""

import ctypes
import functools
import mmap
import sys
import weakref
from typing import Any

import numpy as np

LARGE = 1 << 22
"""Bytes from which an array is worth the call of `huge_pages`."""

RESIDENT = 1 << 27
"""Bytes of a mapped file that are resident at most; more would be kept of it only to read it faster."""

_FAULT = 1 << 19  # bytes that a fault makes resident: up to so many where files are cached in large folios
_HUGE = 1 << 21
_MADV_HUGEPAGE = 14
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_read: weakref.WeakKeyDictionary[mmap.mmap, int] = weakref.WeakKeyDictionary()


@functools.cache
def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None)
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return libc


def huge_pages(address: int, size: int) -> bool:
    """Ask for pages of 2 MB behind the fresh array of `size` bytes at `address`; False if not to be had."""
    first = -(-address // _HUGE) * _HUGE
    last = (address + size) // _HUGE * _HUGE
    libc = _libc()
    if libc is None or last <= first:
        return False
    return libc.madvise(first, last - first, _MADV_HUGEPAGE) == 0


def keep_freed(limit: int = 1 << 30) -> bool:
    """Let this process keep what it frees, for arrays of up to `limit` bytes; False without glibc.

    A training step frees and asks again for the same arrays; so they come back without new pages.
    The process holds on to its highest use of memory.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_MMAP_THRESHOLD, limit))


def visited(array: np.ndarray, runs: int, size: int) -> bool:
    """Count what was read of a file mapped for reading; True when its pages were let go.

    `array` is an `np.memmap` of mode "r", or all of one as a plain array; any other is left alone. Once
    `RESIDENT` bytes were read its pages leave this process: they stay with the system, which gives them
    back at the next access without the disk, or to whoever needs memory.

    runs  stretches that were read, each with what a fault of Linux brings with it
    size  bytes of all of them
    """
    source = array if isinstance(array, np.memmap) else array.base
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if not isinstance(source, np.memmap) or source.mode != "r" or advice is None:
        return False
    pages = source.base
    if not isinstance(pages, mmap.mmap):
        return False
    _read[pages] = _read.get(pages, 0) + runs * _FAULT + size
    if _read[pages] < RESIDENT:
        return False
    pages.madvise(advice)
    _read[pages] = 0
    return True
