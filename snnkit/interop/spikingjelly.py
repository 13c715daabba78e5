"""SpikingJelly's modules to snnkit's and back, and to a Graph.

A LIFNode's tau is in steps: tau_mem = tau · dt. v_reset None is the soft reset.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import GraphError, require
from ..graph import Graph
from ..neurons import IF, LI, LIF
from ..training.lowering import lower

ALIKE = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)


def to_graph(network: nn.Module, input_shape: tuple[int, ...] | int, dt: float = 1.0) -> Graph:
    """The Graph of a sequential SpikingJelly network in evaluation mode; dt in ms."""
    return lower(to_snnkit(network, dt), input_shape, dt)


def to_snnkit(network: nn.Module, dt: float = 1.0) -> nn.Sequential:
    """The same layers with snnkit's neurons; weights are shared, not copied.

    Taken are Linear, Conv2d, BatchNorm, Flatten, Dropout (of torch or SpikingJelly), LIFNode,
    ParametricLIFNode and IFNode. Raises `GraphError` naming the first module that has no counterpart.
    """
    require("spikingjelly", "interop")
    parts = []
    for name, part in _leaves(network, ""):
        parts.append((name.replace(".", "_"), _convert(name, part, dt)))
    made = nn.Sequential()
    for name, module in parts:
        made.add_module(name, module)
    return made.train(network.training)


def _leaves(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    from spikingjelly.activation_based import layer

    if isinstance(module, nn.Sequential | layer.SeqToANNContainer | nn.ModuleList):
        found = []
        for name, part in module.named_children():
            found += _leaves(part, f"{prefix}.{name}" if prefix else name)
        return found
    return [(prefix or "0", module)]


def _convert(name: str, part: Any, dt: float) -> nn.Module:
    from spikingjelly.activation_based import layer, neuron

    if isinstance(part, layer.Dropout | layer.Dropout2d):
        return nn.Dropout(part.p)
    if isinstance(part, ALIKE):
        return part
    if isinstance(part, neuron.ParametricLIFNode):
        share = float(1 - torch.sigmoid(part.w.detach()))
        made: Any = LIF(**_options(part, dt), decay=share, learn_tau=True)
        with torch.no_grad():
            made.decay_raw.copy_(-part.w.detach())
        made.decay_input = part.decay_input
        return made
    if isinstance(part, neuron.LIFNode):
        made = LIF(tau_mem=part.tau * dt, **_options(part, dt))
        made.decay_input = part.decay_input
        return made
    if type(part).__name__ == "IFNode":
        return IF(**_options(part, dt))
    raise GraphError(
        f"layer {name!r} ({type(part).__name__}) of SpikingJelly has no counterpart; Linear, Conv2d, "
        "BatchNorm, Flatten, Dropout, LIFNode, ParametricLIFNode and IFNode have."
    )


def _options(part: Any, dt: float) -> dict[str, Any]:
    soft = part.v_reset is None
    return {
        "dt": dt,
        "v_th": part.v_threshold,
        "v_reset": 0.0 if soft else part.v_reset,
        "reset": "soft" if soft else "hard",
        "detach_reset": part.detach_reset,
    }


def from_snnkit(network: nn.Module) -> nn.Sequential:
    """The network of snnkit's modules with SpikingJelly's multi-step neurons; weights are shared.

    A leaky read-out becomes a LIFNode with a threshold that nothing reaches, its potentials in
    ``v_seq``. Raises `GraphError` for layers with delays and neurons that SpikingJelly does not have.
    """
    require("spikingjelly", "interop")
    from spikingjelly.activation_based import layer, neuron, surrogate

    made = []
    for name, part in _leaves(network, ""):
        if isinstance(part, LIF | IF):
            reset = part.options["reset"]
            if reset == "none" or part.refractory is not None or part.v_rest != part.v_reset:
                raise GraphError(
                    f"layer {name!r}: reset 'none', a refractory period or v_rest ≠ v_reset, which "
                    "SpikingJelly's neurons do not have."
                )
            options = {
                "v_threshold": float(part.v_th),
                "v_reset": float(part.v_reset) if reset == "hard" else None,
                "surrogate_function": surrogate.ATan(),
                "detach_reset": part.detach_reset,
                "step_mode": "m",
            }
            decay = part.per_step()["decay"].detach()
            if isinstance(part, IF):
                made.append(neuron.IFNode(**options))
                continue
            if decay.numel() != 1:
                raise GraphError(f"layer {name!r}: decays differ between neurons; a LIFNode has one tau.")
            tau = float(1 / (1 - decay))
            made.append(neuron.LIFNode(tau=tau, decay_input=part.decay_input, **options))
        elif isinstance(part, LI):
            params = part.per_step()
            if params["decay"].numel() != 1:
                raise GraphError(f"layer {name!r}: decays differ between neurons; a LIFNode has one tau.")
            tau = float(1 / (1 - params["decay"]))
            unreachable = {"v_threshold": 1e9, "v_reset": 0.0, "step_mode": "m", "store_v_seq": True}
            made.append(neuron.LIFNode(tau=tau, decay_input=bool(params["gain"] != 1), **unreachable))
        elif getattr(part, "step_mode", "") == "m":
            made.append(part)
        elif isinstance(part, nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d | nn.Flatten):
            made.append(layer.SeqToANNContainer(part))
        elif isinstance(part, nn.Dropout | nn.Identity):
            made.append(layer.Dropout(part.p, step_mode="m") if isinstance(part, nn.Dropout) else part)
        else:
            raise GraphError(f"layer {name!r} ({type(part).__name__}) has no counterpart in SpikingJelly.")
    return nn.Sequential(*made).train(network.training)
