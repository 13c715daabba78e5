"""Large arrays without the price of fresh pages.

Linux gives a process memory in pages of 4 KB and clears each at its first use; for an array of
many megabytes that is made, filled once and freed, this costs several times the filling.
"""

import ctypes
import functools
import sys
from typing import Any

LARGE = 1 << 22
"""Bytes from which an array is worth the call of `huge_pages`."""

_HUGE = 1 << 21
_MADV_HUGEPAGE = 14
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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
