"""Norse's networks as snnkit's modules, and as a Graph.

Norse integrates by Euler steps: v ← v + dt · tau_mem_inv · (v_leak − v + i), so decay is
1 − dt · tau_mem_inv, and of a current 1 − dt · tau_syn_inv. It spikes above the threshold (strict).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import GraphError, listed, require
from ..graph import Graph
from ..neurons import IF, LI, LIF, CubaLIF
from ..training.lowering import lower

Translation = tuple[nn.Module, Tensor | None]
"""The module, and what the weights before it are to be multiplied by."""


def to_graph(network: nn.Module, input_shape: tuple[int, ...] | int) -> Graph:
    """The Graph of a sequential Norse network; its step is the cells' own dt."""
    made = to_snnkit(network)
    step = next((float(part.dt) for part in made if isinstance(part, IF | LIF | LI | CubaLIF)), 1.0)
    return lower(made, input_shape, step)


def to_snnkit(network: nn.Module) -> nn.Sequential:
    """The same layers with snnkit's neurons.

    Taken are Linear, Conv2d, Flatten, Dropout of torch; LIFBox(Cell), LIF(Cell) without recurrence,
    LIBox(Cell) and IAF(Cell) of Norse. Before a LIFCell the weights are copied and scaled by
    dt · tau_mem_inv, which is how a current moves v there; elsewhere they are shared. Raises
    `GraphError` naming the first module that has no counterpart.
    """
    require("norse.torch", "interop")
    made: list[tuple[str, nn.Module]] = []
    for name, part in _leaves(network, ""):
        neuron, scale = _convert(name, part)
        if scale is not None:
            _scale_before(name, made, scale)
        made.append((name.replace(".", "_"), neuron))
    result = nn.Sequential()
    for name, module in made:
        result.add_module(name, module)
    return result.train(network.training)


def _leaves(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    kind = type(module).__name__
    if isinstance(module, nn.Sequential) or kind in ("SequentialState", "Lift", "RegularStateful"):
        found = []
        for name, part in module.named_children():
            found += _leaves(part, f"{prefix}.{name}" if prefix else name)
        return found
    return [(prefix or "0", module)]


def number(value: Any) -> Any:
    """A parameter as a float where it is one number, else as nested lists."""
    tensor = torch.as_tensor(value).detach().double()
    return float(tensor) if tensor.numel() == 1 else tensor.tolist()


def _convert(name: str, part: Any) -> Translation:
    if isinstance(part, nn.Linear | nn.Conv2d | nn.Flatten | nn.Dropout | nn.Identity):
        return part, None
    kind = type(part).__name__.removesuffix("Cell")
    if kind not in TO_SNNKIT:
        known = listed(["Linear", "Conv2d", "Flatten", "Dropout", *TO_SNNKIT])
        raise GraphError(f"layer {name!r} ({type(part).__name__}) of Norse has no counterpart; {known} have.")
    return TO_SNNKIT[kind](name, part)


def leak(part: Any, rate: Any) -> Tensor:
    """dt · rate, float64: what is lost in a step."""
    return float(part.dt) * torch.as_tensor(rate).detach().double()


def _options(part: Any) -> dict[str, Any]:
    return {
        "dt": 1e3 * float(part.dt),
        "v_th": number(part.p.v_th),
        "v_reset": number(part.p.v_reset),
        "strict": True,
    }


def _without_leak(name: str, part: Any) -> Translation:
    return IF(**_options(part)), None


def _readout(name: str, part: Any) -> Translation:
    if torch.as_tensor(part.p.v_leak).any():
        raise GraphError(f"layer {name!r}: v_leak of a read-out must be 0.")
    decay = number(1 - leak(part, part.p.tau_mem_inv))
    return LI(decay=decay, dt=1e3 * float(part.dt), decay_input=True), None


def _leaky(name: str, part: Any) -> Translation:
    decay = number(1 - leak(part, part.p.tau_mem_inv))
    return LIF(decay=decay, decay_input=True, v_rest=number(part.p.v_leak), **_options(part)), None


def _current_based(name: str, part: Any) -> Translation:
    if torch.as_tensor(part.p.v_leak).any():
        raise GraphError(f"layer {name!r}: v_leak of a current-based neuron must be 0.")
    mem, syn = leak(part, part.p.tau_mem_inv), leak(part, part.p.tau_syn_inv)
    return CubaLIF(decay_syn=number(1 - syn), decay_mem=number(1 - mem), **_options(part)), mem


TO_SNNKIT: dict[str, Callable[[str, Any], Translation]] = {
    "LIFBox": _leaky,
    "LIF": _current_based,
    "LIBox": _readout,
    "IAF": _without_leak,
}
"""Class of a Norse module, without "Cell" → function of layer name and module → snnkit's, and the factor
of the weights before it."""


def _scale_before(name: str, made: list[tuple[str, nn.Module]], scale: Tensor) -> None:
    """Multiply the last weights by `scale`, in a copy."""
    for i in range(len(made) - 1, -1, -1):
        key, part = made[i]
        if isinstance(part, nn.Linear | nn.Conv2d):
            part = copy.deepcopy(part)
            with torch.no_grad():
                factor = scale.to(part.weight.dtype).reshape(-1, *[1] * (part.weight.ndim - 1))
                part.weight.mul_(factor if scale.numel() > 1 else factor.reshape(()))
                if part.bias is not None:
                    part.bias.mul_(
                        scale.to(part.bias.dtype).reshape(-1) if scale.numel() > 1 else float(scale)
                    )
            made[i] = (key, part)
            return
    raise GraphError(f"layer {name!r}: a LIF of Norse without weights before it.")
