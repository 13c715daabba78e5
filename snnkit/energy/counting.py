"""Counting: which operations given spikes cause, spike by spike. `counts` says what is counted."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from ..engine.synapses import synapses
from ..errors import ParameterError, ShapeError
from ..events import EventBatch
from ..graph import INPUT, Graph, Population, Projection, conv_geometry
from ..neurons.neuron import NEURONS, resolve
from .counts import CoreCounts, Counts, NeuronCounts, SynapseCounts
from .mapping import OFF_CHIP, Mapping


class _Listed(NamedTuple):
    """Every stored synapse of a projection, ``[S]``; those of source n are indptr[n] to indptr[n + 1]."""

    indptr: np.ndarray
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    delay: np.ndarray


def _listed(graph: Graph, p: Projection) -> _Listed:
    table = synapses(graph, p)
    per_source = np.bincount(table.source, minlength=graph.populations[p.source].size)
    indptr = np.concatenate([[0], np.cumsum(per_source)]).astype(np.int64)
    return _Listed(indptr, table.source, table.target, table.weight, table.delay)


def count(
    graph: Graph,
    spikes: MappingType[str, EventBatch],
    recorded: MappingType[tuple[str, str], np.ndarray] | None = None,
    *,
    lengths: np.ndarray | None = None,
    mapping: Mapping | None = None,
) -> Counts:
    """Operations behind given spikes.

    spikes    population → its spikes, inputs included
    recorded  (population, state variable) → its value after each step ``[T, B, N]``, as the engine
              records it; without it nobody knows which neurons were idle, and `active` stays None
    lengths   steps that count, of each sample ``[B]``; default: the batch's own
    mapping   neurons → cores; without it there are no messages, hops nor per-core work

    Raises `ParameterError` naming populations without spikes, recorded states or cores, and a neuron that
    is off the chip and no input; `ShapeError` where numbers of samples, steps or neurons differ.
    """
    missing = [name for name in graph.populations if name not in spikes]
    if missing:
        raise ParameterError(f"count needs the spikes of every population; {missing} are missing.")
    batch = {len(events) for events in spikes.values()}
    if len(batch) != 1:
        raise ShapeError(f"populations have spikes of different numbers of samples: {sorted(batch)}.")
    if lengths is None:
        lengths = np.max([e.lengths for e in spikes.values()], axis=0)
    steps = np.asarray(lengths, np.int64)
    if steps.shape != (batch.pop(),):
        raise ShapeError(f"lengths has shape {steps.shape} for {len(next(iter(spikes.values())))} samples.")
    ran = _Run(
        graph,
        {p.name: _listed(graph, p) for p in graph.projections},
        {name: _Events(spikes[name], steps) for name in graph.populations},
        steps,
    )
    result = Counts(
        synapses=[_synapse_counts(ran, p) for p in graph.projections],
        neurons=[_neuron_counts(p, ran.events[p.name], steps) for p in graph.populations.values()],
        steps=steps,
    )
    active = None if recorded is None else _activity(ran, recorded)
    if active is not None:
        for n in result.neurons:
            if not n.is_input:
                n.active = np.array([a.sum() for a in active[n.name]], np.int64)
    if mapping is not None:
        _add_cores(result, ran, active, mapping)
    return result


class _Events:
    """The spikes of one population that lie inside the steps that count."""

    def __init__(self, events: EventBatch, steps: np.ndarray) -> None:
        sample = np.repeat(np.arange(len(events)), np.diff(events.offsets))
        inside = events.times < steps[sample]
        self.sample, self.times = sample[inside], events.times[inside]
        self.neurons = events.neurons[inside]
        values = np.ones(0) if events.values is None else events.values[inside]
        self.valued = np.zeros(len(self.times), bool)
        if events.values is not None:
            self.valued = ~np.isin(values, (-1, 0, 1))
        self.batch = len(events)
        self.offsets = np.searchsorted(self.sample, np.arange(self.batch + 1))

    def total(self, weight: np.ndarray | None = None, only: np.ndarray | None = None) -> np.ndarray:
        """Σ over the spikes of each sample of ``weight[neuron]``, ``[B]``."""
        sample, neurons = self.sample, self.neurons
        if only is not None:
            sample, neurons = sample[only], neurons[only]
        weights = None if weight is None else weight[neurons]
        return np.rint(np.bincount(sample, weights, self.batch)).astype(np.int64)

    def of(self, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and neurons of one sample."""
        part = slice(self.offsets[b], self.offsets[b + 1])
        return self.times[part], self.neurons[part]


class _Run(NamedTuple):
    """A network and what happened in it: synapses by projection, spikes by population, steps ``[B]``."""

    graph: Graph
    listed: dict[str, _Listed]
    events: dict[str, _Events]
    steps: np.ndarray


def _synapse_counts(ran: _Run, p: Projection) -> SynapseCounts:
    table, events = ran.listed[p.name], ran.events[p.source]
    n_in, n_out = ran.graph.populations[p.source].size, ran.graph.populations[p.target].size
    stored = len(table.target)
    fan_out = np.diff(table.indptr)
    kernel_fan_out, address_fan_out = _conv_fan_outs(p)
    delayed = table.delay > 0
    pairs = np.unique(np.stack([table.source[delayed], table.delay[delayed]], 1), axis=0)
    return SynapseCounts(
        name=p.name,
        source=p.source,
        target=p.target,
        kind=p.kind,
        inputs=n_in,
        outputs=n_out,
        synapses=stored,
        effective=int(np.count_nonzero(table.weight)),
        weights=p.weight.size,
        max_delay=p.max_delay if stored else 0,
        kernel_fan_out=kernel_fan_out,
        address_fan_out=address_fan_out,
        spikes=events.total(),
        spikes_valued=np.bincount(events.sample[events.valued], minlength=events.batch),
        synops=events.total(fan_out),
        synops_effective=events.total(np.bincount(table.source, table.weight != 0, n_in)),
        synops_mac=events.total(fan_out, events.valued),
        synops_dense=ran.steps * stored,
        delayed=events.total(np.bincount(pairs[:, 0], minlength=n_in)),
        waiting=events.total(np.bincount(pairs[:, 0], pairs[:, 1], n_in)),
        peak=_peak(pairs, n_in, events, ran.steps),
    )


def _conv_fan_outs(p: Projection) -> tuple[int, int]:
    """`kernel_fan_out` and `address_fan_out` of `SynapseCounts`; (0, 0) where `p` is no convolution."""
    if p.kind != "conv":
        return 0, 0
    (sy, sx), _, _ = conv_geometry(p)
    c_out, _, ky, kx = p.weight.shape
    c_out //= int(p.options.get("groups", 1))
    return c_out * -(-ky // sy) * -(-kx // sx), c_out * ky * kx


def _peak(pairs: np.ndarray, n_in: int, events: _Events, steps: np.ndarray) -> np.ndarray:
    """Most entries of a delay queue that wait at the end of a step, ``[B]``.

    pairs  each (source neuron, different delay > 0) once, int ``[P, 2]``
    n_in   neurons of the source
    """
    peak = np.zeros(events.batch, np.int64)
    if not len(pairs):
        return peak
    longest = int(pairs[:, 1].max())
    uses = np.zeros((n_in, longest + 1), np.int64)
    uses[pairs[:, 0], pairs[:, 1]] = 1
    for b in range(events.batch):
        times, neurons = events.of(b)
        entered = np.zeros((int(steps[b]), longest + 1), np.int64)
        np.add.at(entered, times, uses[neurons])
        waiting = np.zeros(int(steps[b]), np.int64)
        for d in range(1, longest + 1):
            total = np.cumsum(entered[:, d])
            waiting += total
            waiting[d:] -= total[:-d]
        peak[b] = waiting.max(initial=0)
    return peak


def states_of(population: Population) -> int:
    """State variables of one neuron."""
    if population.neuron == INPUT:
        return 0
    return len(resolve(population.neuron, population.options).state)


COUNTERS = ("wait", "clock")
"""State variables that only count steps: they decay not, and running they make no neuron active."""


def leak_macs(population: Population) -> int:
    """Multiplications of one update: one for each state variable that decays by a factor other than 1."""
    if population.neuron == INPUT:
        return 0
    decays = [v != 1 for k, v in population.params.items() if k.startswith("decay")]
    decays += [population.params[k] != 0 for k in ("du", "dv") if k in population.params]  # Loihi's 1 − decay
    if decays:
        return sum(bool(d.any()) for d in decays)
    state = resolve(population.neuron, population.options).state
    return 0 if population.neuron == "if" else sum(name not in COUNTERS for name in state)


def _bias(population: Population) -> np.ndarray:
    """What is added in every step, by the population or, on a chip, its neuron: broadcasts to its shape."""
    if population.neuron == INPUT:
        return np.zeros(())
    bias = population.bias
    return bias + population.params["bias"] if "bias" in population.params else bias


def _neuron_counts(population: Population, events: _Events, steps: np.ndarray) -> NeuronCounts:
    bias = _bias(population)
    biased = int(np.count_nonzero(np.broadcast_to(bias, population.shape)))
    return NeuronCounts(
        name=population.name,
        neuron=population.neuron,
        size=population.size,
        states=states_of(population),
        leak_macs=leak_macs(population),
        biased=biased,
        biases=bias.size if biased else 0,
        steps=steps,
        spikes=events.total(),
    )


@njit(cache=True)
def _mark_arrivals(times, neurons, indptr, targets, delay, arrived):  # type: ignore[no-untyped-def]
    """arrived[t + d, target] = True for each spike and synapse that still arrives in time.

    times, neurons ``[E]``; indptr, targets, delay as in `_Listed`; arrived bool ``[T, N]``
    """
    steps = arrived.shape[0]
    for e in range(len(times)):
        for s in range(indptr[neurons[e]], indptr[neurons[e] + 1]):
            t = times[e] + delay[s]
            if t < steps:
                arrived[t, targets[s]] = True


def _activity(ran: _Run, recorded: MappingType[tuple[str, str], np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Population → for each sample which neuron is active in which step, bool ``[T, N]``."""
    result: dict[str, list[np.ndarray]] = {}
    for name, population in ran.graph.populations.items():
        if population.neuron == INPUT:
            continue
        variables = _recorded_states(population, recorded)
        bias = np.broadcast_to(_bias(population), population.shape).reshape(-1) != 0
        awake = bias.copy()  # in step 0
        for variable in variables:
            awake |= _initial(population, variable) != 0
        result[name] = []
        for b, T in enumerate(ran.steps):
            active = np.zeros((int(T), population.size), bool)
            for p in ran.graph.into(name):
                times, neurons = ran.events[p.source].of(b)
                table = ran.listed[p.name]
                _mark_arrivals(times, neurons, table.indptr, table.target, table.delay, active)
            active |= bias
            for variable, x in variables.items():
                if x.shape[0] < T or x.shape[2] != population.size:
                    raise ShapeError(
                        f"recorded {name!r}, {variable!r} has shape {x.shape}; sample {b} has {T} steps "
                        f"of {population.size} neurons."
                    )
                if T:
                    active[0] |= awake
                    active[1:] |= x[: T - 1, b] != 0
            active[ran.events[name].of(b)] = True
            result[name].append(active)
    return result


def _recorded_states(
    population: Population, recorded: MappingType[tuple[str, str], np.ndarray]
) -> dict[str, np.ndarray]:
    """State variable → its recorded values ``[T, B, N]``, for those that can make a neuron active."""
    name, state = population.name, resolve(population.neuron, population.options).state
    variables = {v: recorded[name, v] for v in state if (name, v) in recorded and v not in COUNTERS}
    if not variables:
        raise ParameterError(
            f"count was given recorded states, but none of population {name!r}; record its "
            "potentials too, or give none at all."
        )
    return variables


def _initial(population: Population, variable: str) -> np.ndarray:
    """Start value of a state variable, ``[N]``."""
    value: Any = 0.0
    if population.neuron in NEURONS:
        value = resolve(population.neuron, population.options).start.get(variable, 0.0)
    value = population.initial.get(variable, value)
    return np.broadcast_to(value, population.shape).reshape(-1)


def _add_cores(
    result: Counts, ran: _Run, active: dict[str, list[np.ndarray]] | None, mapping: Mapping
) -> None:
    """Add messages, routes and the work of each core to the counts."""
    used, place = _places(ran.graph, mapping)
    neurons = np.zeros(len(used), np.int64)
    for name, core in place.items():
        if ran.graph.populations[name].neuron != INPUT:
            neurons += np.bincount(core, minlength=len(used))
    kinds = ["active", "spikes", "sent", "received", *{_synops_of(p) for p in ran.graph.projections}]
    work = {
        kind: [np.zeros((int(T), len(used)), np.int32) for T in result.steps]
        for kind in kinds
        if kind != "active" or active is not None
    }
    for n in result.neurons:
        fan = _fan_out(ran, n, place, len(used))
        reach = np.zeros((n.size, len(used)), bool)
        for cores in fan.values():
            reach |= cores > 0
        n.routes, n.messages = _routes(place[n.name], reach, used, ran.events[n.name])
        _add_work(work, n, ran.events[n.name], _effects(n, place[n.name], reach, fan))
        if active is not None and not n.is_input:
            _add_active(work["active"], active[n.name], place[n.name])
    result.cores = CoreCounts(used, neurons, work)


def _synops_of(p: Projection) -> str:
    """The kind of work that the SynOps of a projection are."""
    return f"synops/{p.kind}"


def _places(graph: Graph, mapping: Mapping) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cores in use ``[C]``; population → position of each neuron's core in them ``[N]``, C if off the chip.

    Raises `ParameterError` or `ShapeError` naming a population that the mapping does not place wholly.
    """
    place: dict[str, np.ndarray] = {}
    for name, population in graph.populations.items():
        if name not in mapping.core:
            raise ParameterError(f"the mapping places no population {name!r}; map every one.")
        core = np.asarray(mapping.core[name], np.int64).reshape(-1)
        if core.shape != (population.size,):
            raise ShapeError(
                f"the mapping gives {core.size} cores for {population.size} neurons of {name!r}."
            )
        place[name] = core
    used = np.unique(np.concatenate([np.zeros(0, np.int64), *place.values()]))
    used = used[used >= 0]
    for name, core in place.items():
        outside = core < 0
        if graph.populations[name].neuron != INPUT and outside.any():
            raise ParameterError(
                f"the mapping puts neuron {int(np.argmax(outside))} of {name!r} off the chip; only inputs "
                "may be there."
            )
    return used, {n: np.where(c < 0, len(used), np.searchsorted(used, c)) for n, c in place.items()}


def _fan_out(
    ran: _Run, n: NeuronCounts, place: dict[str, np.ndarray], cores: int
) -> dict[tuple[str, str], np.ndarray]:
    """(projection, its kind of work) → synapses from each neuron to each core, ``[N, C]``."""
    fan: dict[tuple[str, str], np.ndarray] = {}
    for p in ran.graph.out_of(n.name):
        table = ran.listed[p.name]
        index = table.source * cores + place[p.target][table.target]
        fan[p.name, _synops_of(p)] = np.bincount(index, minlength=n.size * cores).reshape(n.size, cores)
    return fan


def _effects(
    n: NeuronCounts, core: np.ndarray, reach: np.ndarray, fan: dict[tuple[str, str], np.ndarray]
) -> dict[str, np.ndarray]:
    """Kind of work → what one spike of each neuron does to each core, ``[N, C]``.

    core   position of each neuron's core ``[N]``, C if off the chip
    reach  which cores each neuron sends to, bool ``[N, C]``
    """
    cores = reach.shape[1]
    here = np.zeros((n.size, cores + 1), np.int32)
    here[np.arange(n.size), core] = 1
    here = here[:, :-1]
    tables = {"sent": here * reach.sum(1, dtype=np.int32)[:, None], "received": reach}
    for (_, kind), synapses_to in fan.items():
        tables[kind] = tables.get(kind, 0) + synapses_to
    if not n.is_input:
        tables["spikes"] = here
    return tables


def _add_work(
    work: dict[str, list[np.ndarray]], n: NeuronCounts, events: _Events, effects: dict[str, np.ndarray]
) -> None:
    """Add what the spikes of a population do to each core in each step, ``[T, C]`` a sample."""
    side_by_side = np.concatenate([t.astype(np.int32) for t in effects.values()], axis=1)
    for b, T in enumerate(n.steps):
        times, neurons = events.of(b)
        fired = csr_matrix((np.ones(len(times), np.int32), (times, neurons)), shape=(int(T), n.size))
        done = np.split(fired @ side_by_side, len(effects), axis=1)
        for kind, part in zip(effects, done, strict=True):
            work[kind][b] += part


def _add_active(work: list[np.ndarray], active: list[np.ndarray], core: np.ndarray) -> None:
    """Add the active neurons of each core in each step: ``[T, N]`` and ``[N]`` to ``[T, C]``."""
    order = np.argsort(core, kind="stable")
    starts = np.flatnonzero(np.diff(core[order], prepend=-1))
    for into, busy in zip(work, active, strict=True):
        if len(busy):
            into[:, core[order][starts]] += np.add.reduceat(busy[:, order], starts, axis=1, dtype=np.int32)


def _routes(
    core: np.ndarray, reach: np.ndarray, used: np.ndarray, events: _Events
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of cores that exchange messages, ``[R, 2]``, and how many in each sample, ``[R, B]``.

    core   position in `used` of each neuron's core ``[N]``, C if off the chip
    reach  which cores each neuron sends to, bool ``[N, C]``
    used   their numbers ``[C]``
    """
    fired = np.zeros((events.batch, len(core)), np.int64)
    np.add.at(fired, (events.sample, events.neurons), 1)
    pairs, counts = [], []
    for a in np.unique(core):
        here = core == a
        for c in np.flatnonzero(reach[here].any(0)):
            pairs.append((used[a] if a < len(used) else OFF_CHIP, used[c]))
            counts.append(fired[:, here] @ reach[here, c])
    return (
        np.array(pairs, np.int64).reshape(-1, 2),
        np.array(counts, np.int64).reshape(-1, events.batch),
    )
