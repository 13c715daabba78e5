"""Spiking neural networks with learned delays, from training to a neuromorphic chip.

The names of `__all__` are what a program needs from data to energy and chip, each a name of the subpackage
that it is at home in; it is imported when first used, so that the ones without torch cost no torch.
"""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Splits": "datasets",
    "Trainer": "training",
    "energy_page": "report",
    "estimate": "energy",
    "evaluate": "training",
    "load_config": "training",
    "load_data": "training",
    "load_network": "training",
    "lower": "training",
    "netx": "hardware.netx",
    "parse_config": "training",
    "quantise": "hardware.quantise",
    "simulate": "engine",
}
__all__ = sorted(_HOME)

# OpenMP's idle threads wait in a busy loop of milliseconds, on the cores that the next kernel wants: PyTorch
# and Numba bring a pool each, and a training step goes back and forth between them. Read when the libraries
# are loaded, so that it helps where snnkit is imported before torch; what the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f".{_HOME[name]}", __name__)
    return getattr(home, name, home)  # netx is a module itself


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
