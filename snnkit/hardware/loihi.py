"""Loihi's integer network: what a synapse's bits mean, and the plain model that defines the rest.

An integer `Graph` is one whose populations are inputs and "loihi" neurons (`snnkit.neurons.loihi`)
and whose weights are integers. A spike takes one step through a synapse on the chip, so a synapse
that the chip gives delay d has delay d + 1 in the graph. Delay 0 have only values that an input hands to
neurons of its own each ("one_to_one"), through no synapse. Weights in the graph are the values that
act (after the chip's clipping and bit cutting, shifted by a positive weight exponent); a negative
exponent −k is the projection's option ``shift = k``.

`reference` states what such a graph computes, in NumPy; `simulate` computes the same on the
event-driven engine.

Source: lava-nc 0.10.0 (``Dense``, ``DelayDense``, ``Sparse``, ``Conv``, ``LIF``, ``LIFReset``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np

from .. import engine
from ..engine import Synapses, synapses
from ..errors import ExportError, ParameterError, ShapeError
from ..events import EventBatch
from ..graph import INPUT, Graph, Population, Projection
from ..neurons.loihi import NEVER
from ..neurons.neuron import resolve

SIGN_MODES = ("mixed", "excitatory", "inhibitory")
SILENT = (1 << 18) - 1
"""The `vth` of a read-out that never spikes: above what v can reach; wider than the chip's 17 bits."""


@dataclass
class Trace:
    """What a run computed, per population: spikes, u and v after each step, int ``[T, B, N]``."""

    spikes: dict[str, np.ndarray]
    u: dict[str, np.ndarray]
    v: dict[str, np.ndarray]


def sign_mode(weight: np.ndarray) -> str:
    """The mode that the chip's compiler picks for weights of any shape; all zero counts as excitatory."""
    if weight.size == 0 or weight.min() >= 0:
        return "excitatory"
    return "inhibitory" if weight.max() <= 0 else "mixed"


class Bits(TypedDict, total=False):
    """Bits of a weight that the chip holds (8), and its sign mode: of `SIGN_MODES` or "auto" (default)."""

    num_weight_bits: int
    mode: str


def effective_weights(weight: np.ndarray, num_weight_bits: int = 8, mode: str = "auto") -> np.ndarray:
    """The weights that act when `weight`, int of any shape, is handed to the chip: clipped, then cut, int64.

    mixed        clipped to −256..255; the lowest 9 − bits bits are cut by floor
    excitatory   clipped to 0..255;    the lowest 8 − bits bits are cut
    inhibitory   clipped to −255..0;   the lowest 8 − bits bits are cut towards zero

    Raises `ParameterError` for an unknown mode or more than 8 bits.
    """
    weight = np.asarray(weight).astype(np.int64)
    mode = sign_mode(weight) if mode == "auto" else mode
    if mode not in SIGN_MODES:
        raise ParameterError(f"sign mode {mode!r} is none of auto, {', '.join(SIGN_MODES)}.")
    cut = 8 - num_weight_bits + (mode == "mixed")
    if cut < 0:
        raise ParameterError(f"a Loihi weight has at most 8 bits, got num_weight_bits = {num_weight_bits}.")
    if mode == "inhibitory":
        return -((-weight.clip(-255, 0) >> cut) << cut)
    low = -256 if mode == "mixed" else 0
    return (weight.clip(low, 255) >> cut) << cut


def projection(
    name: str,
    source: str,
    target: str,
    weight: np.ndarray,
    delay: np.ndarray | int = 0,
    *,
    weight_exp: int = 0,
    max_delay: int = 0,
    **bits: Unpack[Bits],
) -> Projection:
    """A dense projection from the arguments of Lava's ``Dense`` or ``DelayDense``.

    weight     int [O, I], before clipping and bit cutting
    delay      int, scalar or [O, I]: the chip's delay, 0..63
    bits       see `Bits`
    max_delay  where it is not 0, synapses with a longer delay are dropped, as Lava drops them

    Raises `ExportError` for a delay outside 0..63, `ParameterError` for bits and modes that there are not.
    """
    acting, shift = effective_weights(weight, **bits), 0
    if weight_exp > 0:
        acting = acting << weight_exp
    else:
        shift = -weight_exp
    delay = np.asarray(delay, np.int64)
    if delay.min(initial=0) < 0 or delay.max(initial=0) > 63:
        wrong = delay[(delay < 0) | (delay > 63)].flat[0]
        raise ExportError(f"projection {name!r}: delay {wrong} is outside the chip's 0..63 steps.")
    if max_delay:
        acting = np.where(delay > max_delay, 0, acting)
    options = {"shift": shift} if shift else {}
    return Projection(name, source, target, acting, (delay + 1).astype(np.int32), options=options)


def effective_bias(mantissa: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """``mantissa · 2^exponent``, int64 [N]; floor for negative exponents; the mantissa wraps in 16 bits."""
    mantissa = np.asarray(mantissa).astype(np.int16).astype(np.int64)
    exponent = np.asarray(exponent, np.int64)
    return np.where(exponent >= 0, mantissa << exponent.clip(0), mantissa >> (-exponent).clip(0))


class Clock(TypedDict, total=False):
    """What a population does by counting steps; all 0 by default.

    refractory      steps for which v stays 0 after a spike
    reset_interval  0, or: u and v are cleared before each step whose number (from 1) is
                    `reset_offset` modulo `reset_interval`
    """

    refractory: int
    reset_interval: int
    reset_offset: int


def population(
    name: str,
    shape: int | tuple[int, ...],
    *,
    du: int | np.ndarray,
    dv: int | np.ndarray,
    vth: int | np.ndarray,
    bias: int | np.ndarray = 0,
    u: int | np.ndarray = 0,
    v: int | np.ndarray = 0,
    **clock: Unpack[Clock],
) -> Population:
    """A population of "loihi" neurons.

    du, dv          Lava's: u keeps (4095 − du)/4096, v keeps (4096 − dv)/4096
    vth             spikes where v > 64 · vth
    bias            added to v in every step, in units of v
    u, v            initial state
    clock           see `Clock`
    """
    timed = _timed(**clock)
    params = {"du": du, "dv": dv, "vth": vth, "bias": bias, **timed}
    options = {"timed": True} if timed else {}
    initial = {k: np.asarray(s, np.int64) for k, s in (("u", u), ("v", v)) if np.any(np.asarray(s))}
    arrays = {k: np.asarray(value, np.int64) for k, value in params.items()}
    shape = (shape,) if isinstance(shape, int) else shape
    return Population(
        name=name,
        neuron="loihi",
        shape=shape,
        params=arrays,
        bias=np.zeros((), np.int64),
        options=options,
        initial=initial,
    )


def _timed(refractory: int = 0, reset_interval: int = 0, reset_offset: int = 0) -> dict[str, int]:
    """The parameters that a neuron of `Clock` has, or none."""
    if not (refractory or reset_interval):
        return {}
    return {
        "refractory": refractory,
        "reset_interval": reset_interval or NEVER,
        "reset_offset": reset_offset,
    }


def check(graph: Graph) -> Graph:
    """Return `graph`, or raise `ExportError` naming the first part that is no integer Loihi network."""
    graph.validate()
    for p in graph.populations.values():
        if p.neuron not in (INPUT, "loihi"):
            raise ExportError(
                f"population {p.name!r} has neurons of kind {p.neuron!r}; an integer network has "
                "'loihi' neurons. Use snnkit.hardware.quantise first."
            )
        arrays = [("bias", p.bias), *p.params.items(), *p.initial.items()]
        for name, array in arrays:
            if (array != np.round(array)).any():
                raise ExportError(f"population {p.name!r}: {name} holds {array.flat[0]}, no integer.")
        if p.bias.any():
            raise ExportError(f"population {p.name!r}: a 'loihi' neuron's bias is its parameter 'bias'.")
    for s in graph.projections:
        if (s.weight != np.round(s.weight)).any():
            raise ExportError(f"projection {s.name!r} has weights that are no integers.")
        direct = s.kind == "one_to_one" and graph.populations[s.source].neuron == INPUT
        if s.delays.min(initial=1) < 1 and (s.delays.any() or not direct):
            raise ExportError(
                f"projection {s.name!r} has a delay of 0 steps; a spike takes one step through a Loihi "
                "synapse, so delays in an integer graph are at least 1."
            )
    return graph


def _inputs(graph: Graph, x: Any, steps: int | None) -> tuple[dict[str, np.ndarray], int, int]:
    """Dense integer input ``[T, B, N]`` for each input population, number of steps, batch size."""
    given = x if isinstance(x, dict) else dict.fromkeys(graph.inputs[:1], x)
    if set(given) != set(graph.inputs):
        raise ShapeError(f"input is given for {sorted(given)}; the network has inputs {graph.inputs}.")
    arrays = {}
    for name, value in given.items():
        array = value.to_dense(dtype=np.float64) if isinstance(value, EventBatch) else np.asarray(value)
        if array.ndim != 3 or array.shape[2] != graph.populations[name].size:
            raise ShapeError(
                f"input {name!r} must be [T, B, {graph.populations[name].size}], got {array.shape}."
            )
        if (array != np.round(array)).any():
            raise ShapeError(f"input {name!r} carries values that are no integers.")
        arrays[name] = array.astype(np.int64)
    batch = {a.shape[1] for a in arrays.values()}
    if len(batch) > 1:
        raise ShapeError(f"inputs have different batch sizes: {sorted(batch)}.")
    longest = max((a.shape[0] for a in arrays.values()), default=0)
    return arrays, longest if steps is None else steps, batch.pop() if batch else 1


def reference(graph: Graph, x: Any, steps: int | None = None) -> Trace:
    """Run the integer network, step by step.

    x      EventBatch or int array [T, B, N]; or {input population: one of these}
    steps  how many to run; the length of the input where it is not given

    Raises `ExportError` if the graph is no integer network, `ShapeError` for input of another shape or with
    values that are no integers.

    In each step inputs are sent, every population takes what arrives, then its spikes are sent: the
    weights times the spikes' values are summed over all synapses of one delay, shifted, and added to the
    input of the step in which they arrive. Convolutions hold such a sum in 24 bits.
    """
    check(graph)
    inputs, steps, batch = _inputs(graph, x, steps)
    neurons = {n: p for n, p in graph.populations.items() if p.neuron != INPUT}
    longest = 1 + max((p.max_delay for p in graph.projections), default=0)
    arriving = {n: np.zeros((longest, batch, p.size), np.int64) for n, p in neurons.items()}
    models = {n: resolve(p.neuron, p.options) for n, p in neurons.items()}
    params = {n: [p.param(k, np.int64) for k in models[n].params] for n, p in neurons.items()}
    state = {
        n: [
            np.zeros((batch, p.size), np.int64)
            + np.broadcast_to(p.initial.get(k, np.int64(0)), p.shape).reshape(-1).astype(np.int64)
            for k in models[n].state
        ]
        for n, p in neurons.items()
    }
    wires = [(s, synapses(graph, s)) for s in graph.projections]
    given, taken = ([w for w in wires if (w[0].source in neurons) == inside] for inside in (False, True))
    trace = Trace({}, {}, {})
    for n, p in graph.populations.items():
        trace.spikes[n] = np.zeros((steps, batch, p.size), np.int64)
        if n in neurons:
            trace.u[n], trace.v[n] = (np.zeros((steps, batch, p.size), np.int64) for _ in range(2))
        elif steps:
            values = inputs[n][:steps]
            trace.spikes[n][: len(values)] = values

    for t in range(steps):
        for wire, listed in given:
            _send(wire, listed, trace.spikes[wire.source][t], arriving[wire.target], t)
        for n in neurons:
            a = arriving[n][t % longest]
            s, _, *after = models[n].step(*state[n], a, *params[n])
            state[n] = [value.astype(np.int32).astype(np.int64) for value in after]  # registers of 32 bits
            trace.spikes[n][t], trace.u[n][t], trace.v[n][t] = s, state[n][0], state[n][1]
            a[:] = 0
        for wire, listed in taken:
            _send(wire, listed, trace.spikes[wire.source][t], arriving[wire.target], t)
    return trace


def _send(p: Projection, wire: Synapses, spikes: np.ndarray, arriving: np.ndarray, t: int) -> None:
    longest, _, size = arriving.shape
    for b, values in enumerate(spikes):
        used = (values[wire.source] != 0) & (wire.weight != 0)
        if not used.any():
            continue
        current = (wire.weight * values[wire.source])[used].astype(np.float64)  # exact below 2^53
        group = wire.delay[used] * size + wire.target[used]
        total = np.bincount(group, current, longest * size).astype(np.int64)
        if p.kind == "conv":
            total = (total + (1 << 23)) % (1 << 24) - (1 << 23)
        total = (total >> int(p.options.get("shift", 0))).reshape(longest, size)
        for d in np.flatnonzero(total.any(1)):
            arriving[(t + d) % longest, b] += total[d]


def simulate(graph: Graph, x: Any, steps: int | None = None, **options: Any) -> Trace:
    """Computes `reference` on the event-driven engine; `options` are those of `snnkit.engine.simulate`."""
    check(graph)
    inputs, steps, _ = _inputs(graph, x, steps)
    events: dict[str, Any] = {name: EventBatch.from_dense(array[:steps]) for name, array in inputs.items()}
    neurons = [name for name, p in graph.populations.items() if p.neuron != INPUT]
    record = [(name, k) for name in neurons for k in ("u", "v")]
    result = engine.simulate(graph, events, steps, record=record, dtype="int32", **options)
    trace = Trace({name: batch.to_dense(steps, np.int64) for name, batch in result.spikes.items()}, {}, {})
    for name, array in inputs.items():
        trace.spikes[name] = np.zeros((steps, *array.shape[1:]), np.int64)
        trace.spikes[name][: len(array)] = array[:steps]
    for name in neurons:
        trace.u[name] = result.recorded[name, "u"].astype(np.int64)
        trace.v[name] = result.recorded[name, "v"].astype(np.int64)
    return trace
