"""Neuron models: `NEURONS` for whoever runs them, torch modules for whoever trains them.

`NEURONS`, `resolve`, `register` and `Neuron` need no torch. The modules and `scan` are loaded when
they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import adlif, cuba, integrator, lif, loihi  # noqa: F401  they register themselves
from .neuron import NEURONS, Neuron, register, resolve
from .surrogate import SURROGATES, Surrogate

if TYPE_CHECKING:
    from .modules import IF, LI, LIF, AdLIF, CubaLIF

_MODULES = ("LIF", "CubaLIF", "IF", "LI", "AdLIF")
_SUBMODULES = ("modules", "scan")

__all__ = [
    "IF", "LI", "LIF", "NEURONS", "SURROGATES", "AdLIF", "CubaLIF", "Neuron", "Surrogate", "register",
    "resolve",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.modules"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
