"""A Graph of point neurons in NEST: for networks that outgrow one machine.

    from snnkit.interop import nest
    result = nest.simulate(graph, events, steps=1000, threads=4)

The network is built by PyNEST's array ``Connect``; the same script under ``mpirun`` on a NEST with MPI
spreads it over machines. Arithmetic is NEST's, in double precision.

    neuron      NEST model       how (`MODELS`; another neuron is one more row)
    "lif" "if"  iaf_psc_delta    reset="hard"; a weight becomes a jump of gain · weight
    "li"        iaf_psc_delta    threshold out of reach
    "cuba"      iaf_psc_exp      reset="hard", no bias; spikes come one step later and are dated back

NEST wants delays of at least one step. A population may run some steps late, as long as that is made
up for by the delays that lead back: `lateness` finds the least such shifts, spikes are dated back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import Poisson, Result, fan_out, synapses
from ..errors import ExportError, ParameterError, listed, require
from ..events import EventBatch
from ..graph import INPUT, Graph, Population, Projection
from ..metadata import Timing
from ..neurons.neuron import resolve
from ..neurons.resets import unusual

NEVER = 1e100
"""Threshold of a neuron that never spikes, mV."""

FOREVER = 1e18
"""Time constant of a membrane without leak, ms: exp(−dt / FOREVER) is 1."""

CHUNK = 2_000_000
"""Synapses handed to NEST in one call."""


@dataclass(frozen=True)
class Model:
    """What a population becomes: a NEST model's name and parameters, one value a neuron.

    scale  NEST weight of a weight of 1, float [N]
    lag    steps by which its spikes are late
    """

    name: str
    params: dict[str, np.ndarray]
    scale: np.ndarray
    lag: int = 0


def simulate(
    graph: Graph,
    events: Any = None,
    steps: int | None = None,
    *,
    record: Iterable[str] = (),
    threads: int = 1,
    seed: int = 0,
) -> Result:
    """Run `graph` in NEST; arguments and result are those of `snnkit.engine.simulate`.

    record   "v" or nothing

    Raises `MissingExtraError` without NEST, `ExportError` for neurons and loops that it does not have,
    `ParameterError` for what cannot be recorded or has no length.

    The NEST kernel is reset. Samples of a batch run one after the other. Poisson inputs follow the
    same law as the engine's, with NEST's own random numbers. Under MPI each process returns the
    spikes of its own neurons.
    """
    nest = require("nest", "nest")
    if set(record) - {"v"}:
        raise ParameterError(f"record: in NEST 'v' can be recorded, not {sorted(set(record) - {'v'})}.")
    given = events if isinstance(events, dict) else {graph.inputs[0]: events} if events is not None else {}
    batch = max((len(e) for e in given.values() if isinstance(e, EventBatch)), default=1)
    if steps is None:
        lengths = [e.lengths for e in given.values() if isinstance(e, EventBatch)]
        if not lengths:
            raise ParameterError("without an EventBatch there is no length; say how many steps to run.")
        tail = Timing.of(graph.metadata).steps_tail
        durations = np.max([np.broadcast_to(n, batch) for n in lengths], axis=0) + tail
    else:
        durations = np.full(batch, steps)
    kernel: dict[str, Any] = {"record": bool(set(record)), "threads": threads, "seed": seed}
    found = [_sample(nest, graph, given, b, steps=int(durations[b]), **kernel) for b in range(batch)]
    names = [n for n, p in graph.populations.items() if p.neuron != INPUT]
    spikes = {n: _joined([f[0][n] for f in found], durations, graph.populations[n].size) for n in names}
    recorded = {}
    if set(record):
        for n in names:
            table = np.zeros((int(durations.max(initial=0)), batch, graph.populations[n].size))
            for b, f in enumerate(found):
                table[: durations[b], b] = f[1][n]
            recorded[n, "v"] = table
    counts: dict[str, dict[str, np.ndarray]] = {"spikes": {}, "synops": {}, "synops_effective": {}}
    for n in names:
        counts["spikes"][n] = np.diff(spikes[n].offsets)
    for p in graph.projections:
        if p.source in spikes:
            s = spikes[p.source]
            sample = np.repeat(np.arange(batch), np.diff(s.offsets))
            for kind, fan in zip(("synops", "synops_effective"), fan_out(graph, p), strict=True):
                counts[kind][p.name] = np.bincount(sample, fan[s.neurons], batch).astype(np.int64)
    return Result(spikes, recorded, counts, durations.astype(np.int64), graph.dt)


def lateness(graph: Graph) -> dict[str, int]:
    """Population → steps that it runs late in NEST, so that every delay is at least one step there.

    Raises `ExportError` for a loop whose delays are too short for that.
    """
    late = dict.fromkeys(graph.populations, 0)
    lags = {n: _model(p, graph.dt).lag if p.neuron != INPUT else 0 for n, p in graph.populations.items()}
    shortest = {p.name: int(p.delay.min(initial=p.max_delay)) for p in graph.projections if p.weight.size}
    for _ in range(len(late) + 1):
        changed = False
        for p in graph.projections:
            if p.name in shortest:
                least = late[p.source] + lags[p.source] + 1 - shortest[p.name]
                if least > late[p.target]:
                    late[p.target], changed = least, True
        if not changed:
            return late
    raise ExportError(
        "NEST needs delays of at least one step, and this network has a loop whose delays are too short for "
        f"that: of projections {[p.name for p in graph.projections if shortest.get(p.name, 9) < 2]}. "
        "Give the loop longer delays or a smaller dt."
    )


def _model(population: Population, dt: float) -> Model:
    """The NEST model of a population. Raises `ExportError` naming it for what NEST does not have."""
    where, kind = f"population {population.name!r}", population.neuron
    if kind not in MODELS:
        raise ExportError(f"{where}: neuron {kind!r} has no NEST model here; {listed(MODELS)} have.")
    neuron = resolve(kind, population.options)
    if neuron.spiking and population.options.get("reset", "hard") != "hard":
        raise ExportError(f"{where}: NEST's models reset hard, not {population.options['reset']!r}.")
    for name, given in unusual(population.options).items():
        raise ExportError(
            f"{where}: option {name} = {given}; NEST's models spike once a step, at the threshold or above "
            "it, and have no floor under v."
        )
    return MODELS[kind](population, dt)


def membrane(population: Population, dt: float, decay: np.ndarray) -> dict[str, np.ndarray]:
    """The parameters that NEST's integrate-and-fire models share, float ``[N]``.

    decay  what is left of v after a step, [N]

    Raises `ExportError` for a decay outside (0, 1] and a resting potential at or above the threshold.
    """
    where, size = f"population {population.name!r}", population.size
    spiking = resolve(population.neuron, population.options).spiking
    if not ((decay > 0) & (decay <= 1)).all():
        raise ExportError(f"{where}: decay must lie in (0, 1] to be a time constant.")
    rest = population.param("v_rest") if "v_rest" in population.params else np.zeros(size)
    start = population.initial.get("v", np.zeros(()))
    waits = population.param("refractory") if population.options.get("refractory") else np.zeros(size)
    params = {
        "tau_m": np.where(decay == 1, FOREVER, -dt / np.log(np.where(decay == 1, 0.5, decay))),
        "C_m": np.ones(size),
        "E_L": rest,
        "V_m": np.broadcast_to(start, population.shape).reshape(-1).astype(float),
        "V_th": population.param("v_th") if spiking else np.full(size, NEVER),
        "V_reset": population.param("v_reset") if spiking else rest,
        "t_ref": waits * dt,
    }
    if (params["E_L"] >= params["V_th"]).any():
        raise ExportError(f"{where}: v_rest must lie below v_th; NEST rests there until the first step.")
    return params


def _bias(population: Population) -> np.ndarray:
    return np.broadcast_to(population.bias, population.shape).reshape(-1).astype(float)


def _delta(population: Population, dt: float) -> Model:
    """A weight becomes a jump of gain · weight."""
    decay, gain, bias = population.param("decay"), population.param("gain"), _bias(population)
    params = membrane(population, dt, decay)
    if (bias[decay == 1] != 0).any():
        raise ExportError(
            f"population {population.name!r}: NEST's current input vanishes where decay is 1; use decay < 1 "
            "or no bias."
        )
    tau = params["tau_m"]
    params["I_e"] = gain * bias / (tau * (1 - np.exp(-dt / tau)) + (decay == 1))
    return Model("iaf_psc_delta", params, gain)


def reach(tau: np.ndarray, tau_syn: np.ndarray, dt: float) -> np.ndarray:
    """What a current of 1 that decays with tau_syn adds to a membrane of C_m = 1 in a step of dt; ms.

    ∫ exp(−(dt − s)/tau) · exp(−s/tau_syn) ds over 0..dt, NEST's P21 times C_m, also where the two are equal.
    """
    apart = dt * (1 / tau_syn - 1 / tau)
    close = np.abs(apart) < 1e-9
    share = np.where(close, 1 - apart / 2, -np.expm1(-apart) / np.where(close, 1, apart))
    return np.asarray(dt * np.exp(-dt / tau) * share)


def _exponential(population: Population, dt: float) -> Model:
    """A weight becomes a jump of the current that decays by decay_syn; the spike comes a step later."""
    where = f"population {population.name!r}"
    decay, decay_syn = population.param("decay_mem"), population.param("decay_syn")
    params = membrane(population, dt, decay)
    if _bias(population).any():
        raise ExportError(f"{where}: a bias of neuron 'cuba' is filtered by its synapse; NEST has none.")
    if "i" in population.initial and population.initial["i"].any():
        raise ExportError(f"{where}: a start value of the current cannot be handed to NEST.")
    tau, tau_syn = params["tau_m"], -dt / np.log(decay_syn)
    params |= {"tau_syn_ex": tau_syn, "tau_syn_in": tau_syn}
    return Model("iaf_psc_exp", params, 1 / reach(tau, tau_syn, dt), lag=1)


MODELS: dict[str, Callable[[Population, float], Model]] = {
    "lif": _delta,
    "if": _delta,
    "li": _delta,
    "cuba": _exponential,
}
"""Neuron name → function of a population with hard reset and the step (ms) → the model that it becomes."""


def _sample(
    nest: Any,
    graph: Graph,
    given: dict[str, Any],
    b: int,
    *,
    steps: int,
    record: bool,
    threads: int,
    seed: int,
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, np.ndarray]]:
    """Spikes (times, neurons) and potentials of one sample."""
    late = lateness(graph)
    nest.ResetKernel()
    nest.set(resolution=float(graph.dt), local_num_threads=threads, rng_seed=seed + b + 1, print_time=False)
    nodes, models = {}, {}
    for name, population in graph.populations.items():
        if population.neuron == INPUT:
            nodes[name] = _input(nest, graph, name, given.get(name), b, steps, seed)
            continue
        model = models[name] = _model(population, graph.dt)
        nodes[name] = nest.Create(
            model.name, population.size, {k: v.tolist() for k, v in model.params.items()}
        )
    for p in graph.projections:
        lag = models[p.source].lag if p.source in models else 0
        _connect(nest, graph, p, nodes, models[p.target].scale, late[p.target] - late[p.source] - lag)
    recorders, meters = {}, {}
    for name in models:
        recorders[name] = nest.Create("spike_recorder")
        nest.Connect(nodes[name], recorders[name])
        if record:
            meters[name] = nest.Create(
                "multimeter", params={"record_from": ["V_m"], "interval": float(graph.dt)}
            )
            nest.Connect(meters[name], nodes[name])
    starts = {n: late[n] + m.lag for n, m in models.items()}
    _start_late(nest, nodes, models, starts, graph.dt)
    nest.Simulate((steps + 1) * graph.dt)
    spikes, potentials = {}, {}
    for name, recorder in recorders.items():
        first, shift = nodes[name][0].global_id, late[name] + models[name].lag
        t, who = _events(recorder, graph.dt, shift, first, "times")
        inside = (t >= 0) & (t < steps)
        order = np.lexsort((who[inside], t[inside]))
        spikes[name] = (t[inside][order], who[inside][order].astype(np.int32))
        if record:
            t, who = _events(meters[name], graph.dt, shift, first, "times")
            table = potentials[name] = np.zeros((steps, graph.populations[name].size))
            inside = (t >= 0) & (t < steps)
            table[t[inside], who[inside]] = meters[name].get("events")["V_m"][inside]
    return spikes, potentials


def _start_late(
    nest: Any, nodes: dict[str, Any], models: dict[str, Model], starts: dict[str, int], dt: float
) -> None:
    """Run to the last population's step 0; each rests until its own, and then takes its start values."""
    for name, start in starts.items():
        if start:
            rest = {"V_m": models[name].params["E_L"].tolist()}
            nodes[name].set(rest | {"I_e": [0.0] * len(rest["V_m"])})
    for step in range(max(starts.values(), default=0)):
        nest.Simulate(dt)
        for name, start in starts.items():
            if start == step + 1:
                keys = {"V_m", "I_e"} & models[name].params.keys()
                nodes[name].set({k: models[name].params[k].tolist() for k in keys})


def _events(recorder: Any, dt: float, shift: int, first: int, key: str) -> tuple[np.ndarray, np.ndarray]:
    """(step of the graph, neuron): NEST dates a step by its end."""
    events = recorder.get("events")
    steps = np.round(np.asarray(events[key]) / dt).astype(np.int64) - 1 - shift
    return steps, np.asarray(events["senders"], np.int64) - first


def _input(nest: Any, graph: Graph, name: str, source: Any, b: int, steps: int, seed: int) -> Any:
    size, dt = graph.populations[name].size, graph.dt
    if isinstance(source, Poisson):
        # a parrot repeats one train to all of its targets, which NEST's generator would not
        rate = np.broadcast_to(np.asarray(source.rate_hz, float), size)
        noise = nest.Create("poisson_generator", size, {"rate": rate.tolist(), "start": 0.0})
        parrots = nest.Create("parrot_neuron", size)
        nest.Connect(noise, parrots, "one_to_one", {"delay": dt})
        return parrots
    generators = nest.Create("spike_generator", size)
    if source is None:
        return generators
    if isinstance(source, EventBatch):
        one = source.validate()[b if len(source) > 1 else 0]
        times, neurons, values = one.times, one.neurons, one.values
    else:
        times, neurons, values = source.source(size, dt, b, seed, np.float64).events(0, steps)
    weights = np.ones(len(times)) if values is None or not len(values) else np.asarray(values, float)
    for n in np.unique(neurons):
        chosen = neurons == n
        step, where = np.unique(times[chosen], return_inverse=True)
        generators[int(n)].set(
            spike_times=((step + 1) * dt).round(9).tolist(),
            spike_weights=np.bincount(where, weights[chosen]).tolist(),
        )
    return generators


def _connect(
    nest: Any, graph: Graph, p: Projection, nodes: dict[str, Any], scale: np.ndarray, later: int
) -> None:
    listed = synapses(graph, p)
    used = np.flatnonzero(listed.weight != 0)
    sources, targets = (np.asarray(nodes[n].tolist(), np.int64) for n in (p.source, p.target))
    for chunk in np.array_split(used, max(1, math.ceil(len(used) / CHUNK))):
        if len(chunk):
            target = listed.target[chunk]
            nest.Connect(
                sources[listed.source[chunk]],
                targets[target],
                "one_to_one",
                {
                    "weight": listed.weight[chunk].astype(float) * scale[target],
                    "delay": (listed.delay[chunk] + later) * graph.dt,
                },
            )


def _joined(pieces: list[tuple[np.ndarray, np.ndarray]], lengths: np.ndarray, size: int) -> EventBatch:
    return EventBatch(
        np.concatenate([p[0] for p in pieces]),
        np.concatenate([p[1] for p in pieces]),
        np.concatenate([[0], np.cumsum([len(p[0]) for p in pieces])]),
        lengths,
        size,
    )
