"""Neurons of other frameworks as rows of `LAYERS`: what they are in snnkit's terms, as plain float64 data.

A framework's own file says for each of its classes which neuron of `NEURONS` computes the same, with which
parameters and options. Everything else is derived from that `Neurons`: its population in a Graph, and
snnkit's own module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from ...errors import GraphError, listed
from ...graph import Population, Projection
from ..branches import Shape, Value
from .maps import as_numbers
from .tracer import ALONE, BASES, BATCH, LAYERS, LEADS, STEPS, Met, State, Tracer


@dataclass(frozen=True)
class Neurons:
    """Neurons of others: a name of `NEURONS`, its per-step parameters, and what stands around it.

    neuron, params, options  as of a `Population`, params float64 [] or [N]
    initial       where state variables start that do not start at 0
    factor        what the input is multiplied by, float64 [] or [N]
    back          weights from spikes to the input of the next step, float64 [N, N], or [N] one to one; None
    bias          added to the input in every step, float64 [N]; None
    detach_reset  whether the reset is left out of the backward pass
    learn_tau     whether the decay is learned
    """

    neuron: str
    params: dict[str, np.ndarray]
    options: dict[str, Any] = field(default_factory=dict)
    initial: dict[str, np.ndarray] = field(default_factory=dict)
    factor: np.ndarray | None = None
    back: np.ndarray | None = None
    bias: np.ndarray | None = None
    detach_reset: bool = True
    learn_tau: bool = False

    def population(self, name: str, size: Shape) -> Population:
        """The neurons as a part of a `Graph`."""
        initial = {k: v for k, v in self.initial.items() if v.any()}
        return Population(
            name, self.neuron, size, dict(self.params), options=dict(self.options), initial=initial
        )


@dataclass(frozen=True)
class Spiking:
    """The threshold of a framework's neurons and what a spike does, as the arguments of `LIF` say it."""

    v_th: Any
    v_reset: Any = 0.0
    reset: str = "hard"
    strict: bool = False
    max_spikes: int | None = 1
    v_min: Any = None
    refractory: int = 0

    def params(self) -> dict[str, np.ndarray]:
        """v_th, v_reset and what options bring."""
        given = {"v_th": as_numbers(self.v_th), "v_reset": as_numbers(self.v_reset)}
        if self.v_min is not None:
            given["v_min"] = as_numbers(self.v_min)
        if self.refractory:
            given["refractory"] = as_numbers(self.refractory)
        return given

    def options(self) -> dict[str, Any]:
        """Those that are not the neurons' defaults, and the reset."""
        chosen: dict[str, Any] = {"reset": self.reset}
        if self.strict:
            chosen["strict"] = True
        if self.max_spikes != 1:
            chosen["max_spikes"] = self.max_spikes
        if self.v_min is not None:
            chosen["floor"] = True
        if self.refractory:
            chosen["refractory"] = True
        return chosen


def leaky(decay: Any, gain: Any, at: Spiking, v_rest: Any = 0.0) -> Neurons:
    """v ← v_rest + decay · (v − v_rest) + gain · x, from v_rest on."""
    rest = as_numbers(v_rest)
    params = {"decay": as_numbers(decay), "gain": as_numbers(gain), "v_rest": rest} | at.params()
    return Neurons("lif", params, at.options(), {"v": rest})


def without_leak(at: Spiking, start: Any = 0.0) -> Neurons:
    """v ← v + x, from `start` on."""
    rest = as_numbers(start)
    params = {"decay": np.ones(()), "gain": np.ones(()), "v_rest": rest} | at.params()
    return Neurons("if", params, at.options(), {"v": rest})


def current_based(decay_syn: Any, decay_mem: Any, factor: Any, at: Spiking) -> Neurons:
    """i ← decay_syn · i + factor · x; v ← decay_mem · v + i."""
    params = {"decay_syn": as_numbers(decay_syn), "decay_mem": as_numbers(decay_mem)} | at.params()
    return Neurons("cuba", params, at.options(), factor=as_numbers(factor))


def readout(decay: Any, gain: Any) -> Neurons:
    """v ← decay · v + gain · x, which is also the output."""
    return Neurons("li", {"decay": as_numbers(decay), "gain": as_numbers(gain)})


def current_readout(decay_syn: Any, decay: Any, gain: Any, factor: Any = 1.0) -> Neurons:
    """i ← decay_syn · i + factor · x; v ← decay · v + gain · i, which is also the output."""
    params = {"decay_syn": as_numbers(decay_syn), "decay": as_numbers(decay), "gain": as_numbers(gain)}
    return Neurons("cuba_li", params, factor=as_numbers(factor))


Row = Callable[[Met, Any], Neurons]

OTHERS: dict[type[nn.Module], Row] = {}
"""Class of a framework → ``row(where, module)``; the class itself, not those derived from it."""


def neurons(
    *kinds: type[nn.Module],
    lead: Callable[[Any], Shape],
    states: Callable[[Any], int] | None = None,
    keeps: bool = True,
) -> Callable[[Row], Row]:
    """Enter what classes of neurons are into `OTHERS` and `LAYERS`.

    lead    axes before a step's own that the module takes, made of `STEPS` and `BATCH`
    states  how many of its states a module gives behind its output; None: the output alone
    keeps   whether a module keeps its state itself, so that a second use goes on where the first ended
    """

    def handler(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Any:
        if keeps:
            once(tracer, where)
        out = fired(tracer, where, OTHERS[type(module)](where, module), value, lead(module))
        kept = 0 if states is None else states(module)
        return (out, *[State(where.name)] * kept) if kept else out

    def enter(row: Row) -> Row:
        for kind in kinds:
            OTHERS[kind] = row
            LAYERS[kind] = handler
            LEADS[kind] = lead
            ALONE.add(kind)
        return row

    return enter


def once(tracer: Tracer, where: Met) -> None:
    """Raise `GraphError` where a layer that keeps its own state is used a second time."""
    if where.name in tracer.populations:
        raise GraphError(
            f"{where} is used twice and keeps its state from one use to the next, so that these are no two "
            "populations; give each use its own."
        )


def fired(tracer: Tracer, where: Met, made: Neurons, value: Value, lead: Shape) -> Value:
    """The output of neurons fed by `value` and, where they have a loop, by their own spikes a step later."""
    if made.bias is not None:
        value = value.shifted(_over(made.bias, value.shape))
    if made.factor is not None and (made.factor != 1).any():
        value = value.scaled(made.factor)
    out = tracer.close(where, made, value, lead)
    if made.back is not None:
        name = out.branches[0].source
        back = made.back if made.back.ndim else np.full(value.size, made.back)
        weight = back if made.factor is None else back * _rows(made.factor, back)
        kind = "dense" if weight.ndim == 2 else "one_to_one"
        if len(weight) != value.size:
            raise GraphError(f"{where} is a loop of {len(weight)} neurons and gets {value.size} inputs.")
        tracer.projections.append(
            Projection(f"{name}→{name}", name, name, weight, np.ones((), np.int32), kind)
        )
    return out


def _over(bias: np.ndarray, shape: Shape) -> np.ndarray:
    return bias.reshape(shape) if bias.size == math.prod(shape) else bias


def _rows(factor: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A factor of each target of weights [N, N] or [N]."""
    return factor[:, None] if factor.ndim == 1 and weight.ndim == 2 else factor


def without_place(package: str, *bases: type[nn.Module]) -> None:
    """Enter base classes of a framework: what is derived from them and has no row of its own is refused."""

    def refuse(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Any:
        own = [k.__name__ for k in OTHERS if k.__module__.split(".")[0] == package]
        raise GraphError(f"{where} has no place in a Graph; of {package}'s neurons {listed(own)} have.")

    LAYERS.update(dict.fromkeys(bases, refuse))
    BASES.update(bases)


def plain(kind: type[nn.Module], base: type[nn.Module]) -> None:
    """Enter a framework's class that computes what torch's does, of which it is one."""
    known = next(k for k in base.__mro__ if k in LAYERS)
    LAYERS[kind] = LAYERS[known]


def each_step(tracer: Tracer, where: Met, part: tuple[str, nn.Module], value: Value) -> Any:
    """What a module [T, B, …] gives that calls another, named, for each step."""
    name, inner = part
    tracer.expect(where, value)
    made = tracer.inside(f"{where.name}.{name}".strip("."), inner, replace(value, lead=(BATCH,)))
    return _in_time(made)


def _in_time(tree: Any) -> Any:
    if isinstance(tree, Value):
        return replace(tree, lead=(STEPS, BATCH))
    return tuple(_in_time(part) for part in tree) if isinstance(tree, tuple) else tree
