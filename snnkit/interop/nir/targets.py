"""A Graph in a framework's own terms, so that its from_nir makes the same network of the nodes; `TARGETS`.

Frameworks read less of a node than NIR says, and other things than they write (Norse's and sinabs' ignore r,
sinabs' gives an IF a floor, Rockpool's takes v_leak for a bias). What a framework multiplies an input by is
taken into the weights before; what it cannot say is refused by name. As read by snnTorch 1.0, SpikingJelly
2.0, Norse 1.1, sinabs 3.1 and Rockpool 3.1. Of recurrent networks snnTorch's gives the input to the recurrent
weights; nirtorch's older loader, which the last three take, gives other values where paths branch or join.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...engine import synapses
from ...errors import ExportError, ParameterError, listed
from ...graph import INPUT, Graph, Population, Projection

Made = tuple[Any, np.ndarray]
"""A node, and what the weights into its neurons are multiplied by, float of the population's shape."""


@dataclass(frozen=True)
class Target:
    """How a framework's from_nir steps.

    options  the options that its neurons with a threshold have
    nodes    neuron → function of the `nir` module, a population and the step (s) → node and factor
    dt       the step that it counts in, s; None: that of the Graph
    affine   whether weights without a bias are Affine nodes too, since it does not read Linear
    loops    "flat": a loop's nodes beside the others; "nested": a graph of its own; "" where it runs none
    branches whether it runs networks that are no chain
    floor    whether its `nodes` take the option "floor"
    conv     whether it reads convolutions (none reads grouped ones, whatever it says)
    flatten  the first dimension that its Flatten joins: 0, or 1 where it counts the batch too
    """

    options: Mapping[str, Any]
    nodes: Mapping[str, Callable[[Any, Population, float], Made]]
    dt: float | None = None
    affine: bool = False
    loops: str = ""
    branches: bool = True
    floor: bool = False
    conv: bool = True
    flatten: int = 0


def parameter(p: Population, name: str) -> np.ndarray:
    """Parameter `name` of each neuron, float64 in the population's shape; a missing gain is 1."""
    given = p.params[name] if name in p.params or name != "gain" else np.ones(())
    return np.broadcast_to(given, p.shape).astype(np.float64)


def _leak(p: Population, name: str) -> np.ndarray:
    decay = parameter(p, name)
    if ((decay <= 0) | (decay >= 1)).any():
        wrong = decay[(decay <= 0) | (decay >= 1)].flat[0]
        raise ExportError(f"population {p.name!r}: {name} is {wrong:g}; a time constant needs one in (0, 1).")
    return decay


def _fixed(p: Population, name: str, given: np.ndarray, wanted: np.ndarray | float, why: str) -> None:
    if not np.allclose(given, wanted, rtol=1e-12, atol=0):
        wrong = np.broadcast_to(given, p.shape)[~np.isclose(given, np.broadcast_to(wanted, p.shape))]
        value = f"{wrong.flat[0]:g}" if wrong.size else f"{np.min(given):g}"
        raise ExportError(f"population {p.name!r}: {name} is {value}; {why}.")


def start_of(p: Population) -> np.ndarray:
    """Where v of each neuron starts, float64 in the population's shape."""
    return np.broadcast_to(p.initial.get("v", np.zeros(())), p.shape).astype(np.float64)


def _alike(p: Population, **values: np.ndarray) -> None:
    for name, value in values.items():
        _fixed(p, name, value, value.flat[0], f"all neurons of a layer have one, {value.flat[0]:g}")


def _whole(p: Population) -> np.ndarray:
    return np.ones(p.shape)


def _snntorch_leaky(nir: Any, p: Population, dt: float) -> Made:
    if (parameter(p, "decay") == 1).all():
        raise ExportError(f"population {p.name!r}: decay is 1; snnTorch reads an IF as a Leaky of beta 0.9.")
    decay, v_th = _leak(p, "decay"), parameter(p, "v_th")
    _alike(p, v_th=v_th)
    for name in ("v_rest", "v_reset"):
        _fixed(p, name, parameter(p, name), 0.0, "snnTorch's Leaky rests at and resets to 0")
    _fixed(p, "initial v", start_of(p), 0.0, "snnTorch starts at 0")
    tau = dt / (1 - decay)
    return nir.LIF(tau=tau, r=tau / dt, v_leak=0 * tau, v_threshold=v_th), parameter(p, "gain")


def _current(nir: Any, p: Population, dt: float, **others: np.ndarray) -> Any:
    tau_syn, tau_mem = dt / (1 - _leak(p, "decay_syn")), dt / (1 - _leak(p, "decay_mem"))
    return nir.CubaLIF(
        tau_syn=tau_syn,
        tau_mem=tau_mem,
        r=tau_mem / dt,
        v_leak=np.zeros(p.shape),
        v_threshold=parameter(p, "v_th"),
        w_in=tau_syn / dt,
        **others,
    )


def _snntorch_current(nir: Any, p: Population, dt: float) -> Made:
    _alike(p, v_th=parameter(p, "v_th"))
    _fixed(p, "v_reset", parameter(p, "v_reset"), 0.0, "snnTorch's Synaptic resets to 0")
    _fixed(p, "initial v", start_of(p), 0.0, "snnTorch starts at 0")
    return _current(nir, p, dt), _whole(p)


def _spikingjelly(nir: Any, p: Population, dt: float) -> Made:
    v_th, v_reset = parameter(p, "v_th"), parameter(p, "v_reset")
    decays = {n: parameter(p, n) for n in ("decay", "decay_syn", "decay_mem") if n in p.params}
    _alike(p, v_th=v_th, v_reset=v_reset, **decays)
    _fixed(p, "initial v", start_of(p), v_reset, "SpikingJelly starts at v_reset")
    threshold = {"v_threshold": v_th, "v_reset": v_reset}
    if p.neuron == "cuba":
        return _current(nir, p, dt, v_reset=v_reset), _whole(p)
    if (decays["decay"] == 1).all():
        return nir.IF(r=np.full(p.shape, 1 / dt), **threshold), parameter(p, "gain")
    tau = dt / (1 - _leak(p, "decay"))
    _fixed(p, "v_rest", parameter(p, "v_rest"), v_reset, "SpikingJelly's LIFNode rests at v_reset")
    return nir.LIF(tau=tau, r=tau / dt, v_leak=v_reset, **threshold), parameter(p, "gain")


def _norse(nir: Any, p: Population, dt: float) -> Made:
    _fixed(p, "v_reset", parameter(p, "v_reset"), 0.0, "Norse's from_nir resets to 0")
    ones, v_th = np.ones(p.shape), parameter(p, "v_th")
    rest = parameter(p, "v_rest") if "v_rest" in p.params else 0 * ones
    decay = parameter(p, "decay") if "decay" in p.params else 0 * ones
    if (decay == 1).all():
        _fixed(p, "initial v", start_of(p), 0.0, "Norse's IAFCell starts at 0")
        return nir.IF(r=ones, v_threshold=v_th), parameter(p, "gain")
    _fixed(p, "initial v", start_of(p), rest, "Norse starts at v_leak, which is v_rest")
    if p.neuron == "cuba":
        return _current(nir, p, dt), _whole(p)
    share = 1 - _leak(p, "decay")
    return nir.LIF(tau=dt / share, r=ones, v_leak=rest, v_threshold=v_th), parameter(p, "gain") / share


def _sinabs(nir: Any, p: Population, dt: float) -> Made:
    decay, ones = parameter(p, "decay"), np.ones(p.shape)
    _fixed(p, "initial v", start_of(p), 0.0, "sinabs starts at 0")
    if p.neuron == "li":
        return nir.LI(tau=-dt / np.log(_leak(p, "decay")), r=ones, v_leak=0 * ones), parameter(p, "gain")
    _fixed(p, "v_rest", parameter(p, "v_rest"), 0.0, "sinabs' neurons rest at 0")
    v_th, where = parameter(p, "v_th"), f"population {p.name!r}"
    if (decay == 1).all():
        if not p.options.get("floor"):
            raise ExportError(f"{where}: no v_min; sinabs' from_nir gives an IF the floor v_min = -v_th.")
        _fixed(p, "v_min", parameter(p, "v_min"), -v_th, "sinabs' from_nir gives an IF v_min = -v_th")
        return nir.IF(r=ones, v_threshold=v_th), parameter(p, "gain")
    if p.options.get("floor"):
        raise ExportError(f"{where}: v_min, which sinabs' from_nir gives to an IF only.")
    if len(p.shape) > 1:
        raise ExportError(f"{where} has the shape {p.shape}; sinabs' from_nir reads a LIF of one dimension.")
    tau = -dt / np.log(_leak(p, "decay"))
    return nir.LIF(tau=tau, r=ones, v_leak=0 * ones, v_threshold=v_th), parameter(p, "gain")


def _rockpool(nir: Any, p: Population, dt: float) -> Made:
    """i = β · (i + x): what comes in decays at once, so weights are divided by β; r gives the step."""
    syn, mem = _leak(p, "decay_syn"), _leak(p, "decay_mem")
    _fixed(p, "initial v", start_of(p), 0.0, "Rockpool starts at 0")
    tau_syn, tau_mem = -dt / np.log(syn), -dt / np.log(mem)
    zeros = np.zeros(p.shape)
    node = nir.CubaLIF(
        tau_syn=tau_syn, tau_mem=tau_mem, r=tau_mem / dt - 1, v_leak=zeros, v_threshold=parameter(p, "v_th")
    )
    return node, 1 / syn


HARD = {"reset": "hard", "strict": False, "max_spikes": 1}

TARGETS = {
    "snntorch": Target(
        HARD | {"strict": True},
        {"lif": _snntorch_leaky, "cuba": _snntorch_current},
        dt=1e-4,
        flatten=1,
    ),
    "spikingjelly": Target(HARD, dict.fromkeys(("lif", "if", "cuba"), _spikingjelly), loops="flat"),
    "norse": Target(
        HARD | {"strict": True}, dict.fromkeys(("lif", "if", "cuba"), _norse), branches=False, flatten=1
    ),
    "sinabs": Target(
        {"reset": "soft", "strict": False, "max_spikes": None},
        dict.fromkeys(("lif", "if", "li"), _sinabs),
        dt=1.0,
        affine=True,
        floor=True,
        branches=False,
    ),
    "rockpool": Target(
        {"reset": "soft", "strict": False, "max_spikes": 1 << 16},
        {"cuba": _rockpool},
        loops="nested",
        branches=False,
        conv=False,
    ),
}
"""Framework → what its from_nir makes of nodes."""


@dataclass(frozen=True)
class Prepared:
    """A Graph whose weights hold what the framework multiplies inputs by, and its populations' nodes.

    dt      step of the nodes, s
    affine, flatten  as in `Target`
    nested  populations that are a graph of their own, with the projection that leads back to them
    """

    graph: Graph
    dt: float
    nodes: dict[str, Any] = field(default_factory=dict)
    affine: bool = False
    flatten: int = 0
    nested: dict[str, str] = field(default_factory=dict)


def prepared(nir: Any, graph: Graph, convention: str) -> Prepared:
    """The Graph for a framework of `TARGETS`.

    Raises `ParameterError` for another, `ExportError` naming the population or projection and what the
    framework's from_nir does instead.
    """
    if convention not in TARGETS:
        raise ParameterError(f"NIR can be written for nir, {', '.join(TARGETS)}, not for {convention!r}.")
    target = TARGETS[convention]
    dt = graph.dt * 1e-3 if target.dt is None else target.dt
    populations, nodes, factors = dict(graph.populations), {}, {}
    for name, p in graph.populations.items():
        if p.neuron == INPUT:
            continue
        _fits(convention, target, p)
        nodes[name], factors[name] = target.nodes[p.neuron](nir, p, dt)
        populations[name] = replace(p, bias=np.broadcast_to(p.bias, p.shape) * factors[name])
    nested: dict[str, str] = {}
    ends: set[tuple[str, str]] = set()
    for s in graph.projections:
        if s.source != s.target and not target.branches:
            if ends & {("from", s.source), ("to", s.target)}:
                raise ExportError(
                    f"projection {s.name!r}: a second path from {s.source!r} or to {s.target!r}; "
                    f"{convention}'s from_nir runs chains only."
                )
            ends |= {("from", s.source), ("to", s.target)}
        if s.source == s.target and target.loops == "nested":
            if s.target in nested:
                raise ExportError(
                    f"projection {s.name!r}: Rockpool reads one recurrent connection a population."
                )
            nested[s.target] = s.name
    projections = [_folded(graph, convention, target, s, factors[s.target]) for s in graph.projections]
    projections.sort(key=lambda s: s.source == s.target)  # the first into a population gets its bias
    for name in nested:
        if populations[name].bias.any() and all(s.source == name for s in graph.into(name)):
            raise ExportError(f"population {name!r}: a bias, and no weights but recurrent ones to hold it.")
    made = replace(graph, populations=populations, projections=projections)
    return Prepared(
        graph=made, dt=dt, nodes=nodes, affine=target.affine, flatten=target.flatten, nested=nested
    )


def _fits(convention: str, target: Target, p: Population) -> None:
    where = f"population {p.name!r}"
    if p.neuron not in target.nodes:
        raise ExportError(
            f"{where}: neurons of kind {p.neuron!r}, which {convention}'s from_nir does not read; "
            f"{listed(target.nodes)} it does."
        )
    if p.neuron == "li":
        return
    if p.options.get("refractory"):
        raise ExportError(f"{where}: a refractory period, which NIR's neurons do not have.")
    if p.options.get("floor") and not target.floor:
        raise ExportError(f"{where}: v_min, a floor that {convention}'s from_nir does not give.")
    for name, wanted in target.options.items():
        given = p.options.get(name, HARD[name])
        if given != wanted:
            raise ExportError(
                f"{where}: {name} = {given}; {convention}'s from_nir makes neurons of {wanted}."
            )


def _folded(graph: Graph, convention: str, target: Target, s: Projection, factor: np.ndarray) -> Projection:
    """The projection with its weights times `factor` of the neurons that they lead to; dense but for conv."""
    where = f"projection {s.name!r}"
    part, back = graph.components(), s.source == s.target
    if part[s.source] == part[s.target] and (not back or not target.loops):
        what = "leads back" if back else "is in a loop of several populations"
        raise ExportError(f"{where} {what}, and {convention}'s from_nir runs no such network.")
    if (s.delays[np.asarray(s.weight) != 0] != back).any():
        raise ExportError(f"{where} has delays, and {convention} reads no Delay nodes.")
    if s.kind == "conv":
        if not target.conv or int(s.options.get("groups", 1)) != 1:
            what = "grouped convolution" if target.conv else "convolution"
            raise ExportError(f"{where} is a {what}, which {convention}'s from_nir does not read.")
        per_channel = factor.reshape(factor.shape[0], -1)
        if (per_channel != per_channel[:, :1]).any():
            raise ExportError(
                f"{where}: neurons of a channel differ, so a convolution cannot hold their gains."
            )
        return replace(s, weight=s.weight * per_channel[:, :1, None, None])
    size = graph.populations[s.target].size, graph.populations[s.source].size
    listing = synapses(graph, s)
    weight = np.zeros(size)
    np.add.at(weight, (listing.target, listing.source), listing.weight)
    return Projection(
        name=s.name,
        source=s.source,
        target=s.target,
        weight=weight * factor.reshape(-1, 1),
        delay=np.array(int(back), np.int32),
    )
