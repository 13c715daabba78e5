"""Neuron models: `NEURONS` for whoever runs them, torch modules for whoever trains them.

`NEURONS`, `resolve`, `register` and `Neuron` need no torch. The modules and `scan` are loaded when
they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import integrator, lif  # noqa: F401  they register themselves
from .neuron import NEURONS, Neuron, register, resolve
from .surrogate import SURROGATES, Surrogate

if TYPE_CHECKING:
    from .modules import LI, LIF

_LAZY = {"LIF": "modules", "LI": "modules", "scan": "", "modules": ""}

__all__ = ["LI", "LIF", "NEURONS", "SURROGATES", "Neuron", "Surrogate", "register", "resolve"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _LAZY[name]:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
