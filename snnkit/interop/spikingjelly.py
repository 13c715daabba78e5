"""snnkit's modules as SpikingJelly's; `modules.to_snnkit` is the way back, `lower` that to a Graph.

A LIFNode's tau is in steps: tau_mem = tau · dt. v_reset None is the soft reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..errors import GraphError, require
from ..neurons import IF, LI, LIF
from ..neurons.resets import unusual
from .modules import EachStep


def _leaves(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    from spikingjelly.activation_based import layer

    if isinstance(module, nn.Sequential | layer.SeqToANNContainer | nn.ModuleList | EachStep):
        found = []
        for name, part in module.named_children():
            found += _leaves(part, f"{prefix}.{name}" if prefix else name)
        return found
    return [(prefix or "0", module)]


def from_snnkit(network: nn.Module) -> nn.Sequential:
    """The network of snnkit's modules with SpikingJelly's multi-step neurons; weights are shared.

    A leaky read-out becomes a LIFNode with a threshold that nothing reaches, its potentials in
    ``v_seq``. Raises `GraphError` for layers with delays and neurons that SpikingJelly does not have.
    """
    require("spikingjelly", "interop")
    from spikingjelly.activation_based import layer

    made = []
    for name, part in _leaves(network, ""):
        neuron = next((FROM_SNNKIT[kind] for kind in type(part).__mro__ if kind in FROM_SNNKIT), None)
        if neuron is not None:
            made.append(neuron(name, part))
        elif getattr(part, "step_mode", "") == "m":
            made.append(part)
        elif isinstance(part, nn.Linear | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d | nn.Flatten):
            made.append(layer.SeqToANNContainer(part))
        elif isinstance(part, nn.Dropout | nn.Identity):
            made.append(layer.Dropout(part.p, step_mode="m") if isinstance(part, nn.Dropout) else part)
        else:
            raise GraphError(f"layer {name!r} ({type(part).__name__}) has no counterpart in SpikingJelly.")
    return nn.Sequential(*made).train(network.training)


def node_options(name: str, part: LIF | IF) -> dict[str, Any]:
    """The arguments of SpikingJelly's nodes that a module's threshold and reset become.

    Raises `GraphError` for a reset, rest, refractory period or threshold that they do not have.
    """
    from spikingjelly.activation_based import surrogate

    reset = part.options["reset"]
    if reset not in ("hard", "soft") or part.refractory is not None or part.v_rest != part.v_reset:
        raise GraphError(
            f"layer {name!r}: reset 'none', a refractory period or v_rest ≠ v_reset, which "
            "SpikingJelly's neurons do not have."
        )
    for option, given in unusual(part.options).items():
        raise GraphError(
            f"layer {name!r}: option {option} = {given}; SpikingJelly's neurons spike once a step, at the "
            "threshold or above it, and have no floor under v."
        )
    return {
        "v_threshold": float(part.v_th),
        "v_reset": float(part.v_reset) if reset == "hard" else None,
        "surrogate_function": surrogate.ATan(),
        "detach_reset": part.detach_reset,
        "step_mode": "m",
    }


def _tau(name: str, decay: Tensor) -> float:
    """1/(1 − decay) in steps. Raises `GraphError` where neurons differ."""
    if decay.numel() != 1:
        raise GraphError(f"layer {name!r}: decays differ between neurons; a LIFNode has one tau.")
    return float(1 / (1 - decay))


def _lif_node(name: str, part: Any) -> nn.Module:
    from spikingjelly.activation_based import neuron

    given = node_options(name, part)
    tau = _tau(name, part.per_step()["decay"].detach())
    return neuron.LIFNode(tau=tau, decay_input=part.decay_input, **given)


def _if_node(name: str, part: Any) -> nn.Module:
    from spikingjelly.activation_based import neuron

    return neuron.IFNode(**node_options(name, part))


def _silent_node(name: str, part: Any) -> nn.Module:
    from spikingjelly.activation_based import neuron

    params = part.per_step()
    unreachable = {"v_threshold": 1e9, "v_reset": 0.0, "step_mode": "m", "store_v_seq": True}
    tau = _tau(name, params["decay"])
    return neuron.LIFNode(tau=tau, decay_input=bool(params["gain"] != 1), **unreachable)


FROM_SNNKIT: dict[type, Callable[[str, Any], nn.Module]] = {
    LIF: _lif_node,
    IF: _if_node,
    LI: _silent_node,
}
"""snnkit's module (or one derived from it) → function of layer name and module → SpikingJelly's node."""
