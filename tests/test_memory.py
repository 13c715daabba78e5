"""Large pages and kept memory are advice: arrays hold what was put in them, with or without."""

import sys
from pathlib import Path

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


def resident(pages):
    """Pages of this mapping that the process holds, by the kernel."""
    start = f"{pages.ctypes.data:x}-"
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    next(line for line in lines if line.startswith(start))
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) * 1024


@linux
@pytest.mark.parametrize("plain", [False, True])
def test_pages_of_a_mapped_file_go_once_enough_was_read_and_come_back(tmp_path, monkeypatch, plain):
    monkeypatch.setattr(memory, "RESIDENT", 3 << 20)
    want = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    want.tofile(tmp_path / "file")
    source = np.memmap(tmp_path / "file", np.uint8, "r")
    array = np.asarray(source) if plain else source
    for _ in range(3):
        went = []
        for _ in range(3):
            np.testing.assert_array_equal(array, want)
            assert resident(source) == 1 << 20
            went.append(memory.visited(array, 0, 1 << 20))
        assert went == [False, False, True]
        assert resident(source) == 0
    assert not memory.visited(array, 0, 1 << 20)
    assert memory.visited(array, 32, 0), "a short stretch counts as what comes with it"


def test_what_is_no_map_for_reading_is_left_alone(tmp_path):
    """Pages of a private map that were written would be lost."""
    np.zeros(1 << 12, np.uint8).tofile(tmp_path / "file")
    private = np.memmap(tmp_path / "file", np.uint8, "c")
    private[:] = 7
    for array in (private, np.asarray(private), np.zeros(9), np.zeros(9)[:4]):
        assert not memory.visited(array, 1 << 20, 0)
    assert (private == 7).all()
