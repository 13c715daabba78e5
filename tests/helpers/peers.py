"""Simulators that run in an environment of their own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"


def peer_python(module, package, *others):
    """A Python that has `module`: this one, or that of `make bench-engine`; else the test is skipped."""
    if importlib.util.find_spec(module) is not None:
        return sys.executable
    probe = [PEERS, "-c", f"import {', '.join([module, *others])}"]
    if PEERS.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return PEERS
    pytest.skip(f"no {module}: `make bench-engine` makes .venv-peers, or pip install {package}")


def nest_python():
    return peer_python("nest", "nest-simulator", "h5py", "numba")


def brian2_python():
    return peer_python("brian2", "brian2")
