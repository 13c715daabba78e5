"""Neuron models: `NEURONS` for whoever runs them, torch modules for whoever trains them.

`NEURONS`, `resolve`, `register`, `Neuron`, `RESETS` and `SURROGATES` need no torch. The modules and what
runs them are loaded when they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import adlif, cuba, current_integrator, integrator, lif, loihi  # noqa: F401  they register themselves
from .neuron import NEURONS, Neuron, register, resolve
from .resets import RESETS, Reset
from .surrogate import SURROGATES, Surrogate

if TYPE_CHECKING:
    from .modules import IF, LI, LIF, MODULES, AdLIF, CubaLIF, NeuronModule, Registered, module_of

_MODULES = ("LIF", "CubaLIF", "IF", "LI", "AdLIF", "MODULES", "NeuronModule", "Registered", "module_of")
_SUBMODULES = ("modules", "normalised", "operator", "reference", "run")

__all__ = [
    "IF", "LI", "LIF", "MODULES", "NEURONS", "RESETS", "SURROGATES", "AdLIF", "CubaLIF", "Neuron",
    "NeuronModule", "Registered", "Reset", "Surrogate", "module_of", "register", "resolve",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.modules"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
