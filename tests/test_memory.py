"""Large pages and kept memory are advice: arrays hold what was put in them, with or without."""

import sys

import numpy as np
import pytest

from snnkit import memory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")


@linux
def test_advice_on_a_large_array_is_taken_and_changes_no_value():
    array = np.empty(3 * memory.LARGE // 4, np.float32)
    memory.huge_pages(array.ctypes.data, array.nbytes)
    array[:] = np.arange(array.size, dtype=np.float32)
    assert array[-1] == array.size - 1


def test_an_array_without_one_whole_large_page_is_left_alone():
    array = np.zeros(1000, np.float32)
    assert memory.huge_pages(array.ctypes.data, array.nbytes) is False


def test_without_the_c_library_nothing_is_done(monkeypatch):
    monkeypatch.setattr(memory, "_libc", lambda: None)
    assert memory.huge_pages(0, 1 << 30) is False
    assert memory.keep_freed() is False
