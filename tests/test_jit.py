"""Kernels are kept on disk, and a second process loads instead of compiling."""

import os
import subprocess
import sys
import textwrap

import pytest

from snnkit import jit
from snnkit.errors import ParameterError


def triple(x):
    return 3 * x


def test_source_is_renamed_and_runs():
    space = {}
    exec(jit.source_of(triple, "renamed"), space)
    assert space["renamed"](2) == 6


def test_a_function_without_source_is_refused():
    with pytest.raises(ParameterError, match="has no source"):
        jit.source_of(eval("lambda: 1"), "f")


def test_a_second_process_finds_the_compiled_kernel(tmp_path):
    program = textwrap.dedent(
        """
        from snnkit import jit
        source = "from numba import njit\\n@njit(cache=True)\\ndef f(x):\\n    return x + 1\\n"
        f = jit.build("test", source).f
        assert f(1) == 2
        print(sum(f.stats.cache_hits.values()), sum(f.stats.cache_misses.values()))
        """
    )
    environment = {**os.environ, "SNNKIT_CACHE": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["0", "1"], ["1", "0"]]
