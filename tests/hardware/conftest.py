"""Real Lava, where a Python 3.10 is to be had."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def check():
    """The script of `make lava`."""
    spec = importlib.util.spec_from_file_location("lava_check", ROOT / "scripts" / "lava_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def real_lava(check):
    """A Python 3.10 with lava-nc, made on first use in .venv-lava as `make lava` does."""
    try:
        python = check.environment()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOTHING WAS COMPARED WITH REAL LAVA: {error}")
    if python is None:
        pytest.skip("NOTHING WAS COMPARED WITH REAL LAVA: no Python 3.10 is to be had")
    return python
