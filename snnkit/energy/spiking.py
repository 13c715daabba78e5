"""Spiking modules of other libraries and of snnkit: which they are, and what one of their neurons does."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ParameterError
from ..graph import Population
from .counting import leak_macs, states_of

NEURON_PACKAGES = ("spikingjelly.activation_based.neuron", "snntorch._neurons")
SNNKIT_NEURONS = ("LIF", "CubaLIF", "IF", "LI", "AdLIF")
LEAKLESS = ("IFNode", "IF", "IAF")
OURS = ("snnkit.neurons", "snnkit.delays.layers")
SNNTORCH_WHOLE = ("StateLeaky", "AssociativeLeaky", "LeakyParallel")
"""Those of snnTorch that take all steps at once."""
SNNTORCH_STATES = ("syn", "syn_exc", "syn_inh", "mem")


def is_spiking(module: Any, further: tuple[type, ...]) -> bool:
    """True for the neurons that are known, and for instances of `further`."""
    if isinstance(module, further):
        return True
    for base in type(module).__mro__:
        home, name = base.__module__, base.__name__
        if home.startswith(NEURON_PACKAGES):
            return name != "RecurrentOneToOne"
        if home.startswith("sinabs.layers") and name == "StatefulLayer":
            return True
        if home == "norse.torch.module.snn" and name.startswith("SNN"):
            return True
        if home.startswith("snnkit.neurons") and name in SNNKIT_NEURONS:
            return True
        if home == "snnkit.delays.layers" and name == "RecurrentDelayedLinear":
            return True
    return False


def is_ours(module: Any) -> bool:
    """True for a neuron of snnkit, whose tensors are always [T, B, …]."""
    return any(base.__module__.startswith(OURS) for base in type(module).__mro__)


def is_multi_step(module: Any, further: tuple[type, ...]) -> bool:
    """True if the first neuron in a network that says takes all steps at once."""
    for part in module.modules():
        if not is_spiking(part, further):
            continue
        mode = getattr(part, "step_mode", None)
        if mode is not None:
            return bool(mode == "m")
        for base in type(part).__mro__:
            if base.__module__ == "norse.torch.module.snn" and base.__name__ in ("SNN", "SNNRecurrent"):
                return True
            if base.__module__.startswith(OURS) or base.__name__ in SNNTORCH_WHOLE:
                return True
    return False


def is_batch_first(module: Any) -> bool:
    """True if the tensors of a network are [B, T, …]: sinabs'.

    Raises `ParameterError` naming a layer of sinabs whose tensors have samples and steps on one axis.
    """
    found = False
    for name, part in module.named_modules():
        bases = {base.__name__ for base in type(part).__mro__ if base.__module__.startswith("sinabs.layers")}
        if "SqueezeMixin" in bases:
            raise ParameterError(
                f"{name!r} is sinabs' {type(part).__name__}, whose tensors [B·T, …] do not tell samples from "
                f"steps; use {type(part).__name__.removesuffix('Squeeze')} with [B, T, …] to count it."
            )
        found |= "StatefulLayer" in bases
    return found


def is_single_step(module: Any) -> bool:
    """True for a neuron of which it is known that each call is one step."""
    if getattr(module, "step_mode", None) == "s":
        return True
    names = {(base.__module__, base.__name__) for base in type(module).__mro__}
    cells = ("SNNCell", "SNNRecurrentCell")
    if ("snntorch._neurons.neurons", "SpikingNeuron") in names:
        return not any(name in SNNTORCH_WHOLE for _, name in names)
    return any(home == "norse.torch.module.snn" and name in cells for home, name in names)


def fires(module: Any) -> bool:
    """False for a neuron that gives its potential in place of spikes."""
    if is_ours(module):
        return not isinstance(module.neuron, str) or bool(module.spiking)
    return not type(module).__name__.startswith(("NonSpiking", "ExpLeak"))


def facts(module: Any, output: Any) -> dict[str, Any]:
    """neuron, states and leak_macs of `NeuronCounts` for a spiking module that gave this output."""
    if is_ours(module):
        cell: Any = module if isinstance(module.neuron, str) else module.neuron
        params = {name: np.asarray(value.detach().cpu()) for name, value in cell.per_step().items()}
        alike = Population("", cell.neuron, (1,), params, options=cell.options)
        return {"neuron": type(cell).__name__, "states": states_of(alike), "leak_macs": leak_macs(alike)}
    name, states = type(module).__name__, _states(module, output)
    return {"neuron": name, "states": states, "leak_macs": 0 if name in LEAKLESS else states}


def _states(module: Any, output: Any) -> int:
    """State variables of one neuron: what the module keeps, the tensors of a returned state; else 1."""
    if any(base.__module__.startswith("snntorch._neurons") for base in type(module).__mro__):
        return max(sum(name in SNNTORCH_STATES for name, _ in module.named_buffers(recurse=False)), 1)
    if any(base.__module__.startswith("spikingjelly") for base in type(module).__mro__):
        kept = getattr(module, "_memories", {})
        return max(sum(not name.endswith("_seq") for name in kept), 1)
    state = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    names = getattr(state, "_fields", ())
    return max(sum(name not in ("z", "s") for name in names), 1)
