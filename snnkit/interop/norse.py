"""Norse's networks as snnkit's modules, and as a Graph.

Norse integrates by Euler steps: v ← v + dt · tau_mem_inv · (v_leak − v + i), so decay is
1 − dt · tau_mem_inv, and of a current 1 − dt · tau_syn_inv. It spikes above the threshold, snnkit at it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import GraphError, require
from ..graph import Graph
from ..neurons import IF, LI, LIF, CubaLIF
from ..training.lowering import lower


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


def _number(value: Any) -> Any:
    tensor = torch.as_tensor(value).detach().double()
    return float(tensor) if tensor.numel() == 1 else tensor.tolist()


def _convert(name: str, part: Any) -> tuple[nn.Module, Tensor | None]:
    """The module, and what the weights before it are to be multiplied by."""
    if isinstance(part, nn.Linear | nn.Conv2d | nn.Flatten | nn.Dropout | nn.Identity):
        return part, None
    kind = type(part).__name__.removesuffix("Cell")
    if kind not in ("LIFBox", "LIF", "LIBox", "IAF"):
        raise GraphError(
            f"layer {name!r} ({type(part).__name__}) of Norse has no counterpart; Linear, Conv2d, Flatten, "
            "Dropout, LIFBox, LIF, LIBox and IAF have."
        )
    p, dt = part.p, float(part.dt)
    ms = 1e3 * dt
    if kind == "IAF":
        return IF(dt=ms, v_th=_number(p.v_th), v_reset=_number(p.v_reset)), None
    leak = dt * torch.as_tensor(p.tau_mem_inv).detach().double()
    if kind == "LIBox":
        if torch.as_tensor(p.v_leak).any():
            raise GraphError(f"layer {name!r}: v_leak of a read-out must be 0.")
        return LI(decay=_number(1 - leak), dt=ms, decay_input=True), None
    options = {"dt": ms, "v_th": _number(p.v_th), "v_reset": _number(p.v_reset)}
    if kind == "LIFBox":
        return LIF(decay=_number(1 - leak), decay_input=True, v_rest=_number(p.v_leak), **options), None
    if torch.as_tensor(p.v_leak).any():
        raise GraphError(f"layer {name!r}: v_leak of a current-based neuron must be 0.")
    syn = dt * torch.as_tensor(p.tau_syn_inv).detach().double()
    return CubaLIF(decay_syn=_number(1 - syn), decay_mem=_number(1 - leak), **options), leak


def _scale_before(name: str, made: list[tuple[str, nn.Module]], scale: Tensor) -> None:
    """Multiply the last weights by `scale`, in a copy."""
    import copy

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
